"""Shared by the dataset formats: headers of arrays, lossless casts, targets."""

import re
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.domain.datasets import MAX_COUNTED, Targets
from app.domain.problems import DatasetMismatch, InvalidDataset
from workers.compression.intake.limits import DatasetLimits

Arrays = dict[str, NDArray[Any]]
"""By name; memory-mapped, the first axis is the sample."""

_MAGIC = b"\x93NUMPY"
_DESCR = re.compile(r"['\"]descr['\"]\s*:\s*['\"]([<>=|]?[a-zA-Z]\d{0,4})['\"]")
_ORDER = re.compile(r"['\"]fortran_order['\"]\s*:\s*(True|False)")
_SHAPE = re.compile(r"['\"]shape['\"]\s*:\s*\(([\d,\s]*)\)")
_KINDS = "biuf"
_CHUNK = 64 << 20


class Header(NamedTuple):
    """The header of a ``.npy`` file."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool
    length: int
    """The bytes of the header itself."""

    @property
    def nbytes(self) -> int:
        """The bytes of the elements, in Python's unbounded integers."""
        return prod(self.shape) * self.dtype.itemsize


def read_header(file: IO[bytes], name: str, limits: DatasetLimits) -> Header:
    """Read the header of a ``.npy`` file within bounds, evaluating nothing.

    Raises:
        InvalidDataset: the file is no array of numbers, or its header is too large or malformed.
    """
    start = file.read(8)
    if start[:6] != _MAGIC or len(start) < 8 or start[6] not in {1, 2, 3}:
        raise InvalidDataset(f"'{name}' is no .npy array.")
    width = 2 if start[6] == 1 else 4
    length = int.from_bytes(file.read(width), "little")
    if length > limits.header:
        raise InvalidDataset(f"Array '{name}' has a header of {length} bytes.")
    text = file.read(length).decode("latin-1")
    descr, order, shape = _DESCR.search(text), _ORDER.search(text), _SHAPE.search(text)
    if not (descr and order and shape):
        raise InvalidDataset(
            f"Array '{name}' is not made of plain numbers. Save arrays of numbers or booleans with"
            " numpy.savez; object and structured arrays are not read."
        )
    dims = tuple(int(part) for part in shape[1].replace(",", " ").split())
    dtype = _dtype(descr[1], name)
    if len(dims) > limits.rank or prod(filter(None, dims)) * dtype.itemsize > limits.total:
        raise InvalidDataset(f"Array '{name}' has an impossible shape: {dims[:8]}.")
    return Header(dtype, dims, order[1] == "True", 8 + width + length)


def _dtype(text: str, name: str) -> np.dtype[Any]:
    try:
        dtype = np.dtype(text)
    except TypeError:
        raise InvalidDataset(f"Array '{name}' has an unknown dtype {text!r}.") from None
    if dtype.kind not in _KINDS or dtype.itemsize > 8:
        raise InvalidDataset(
            f"Array '{name}' is {dtype}; only booleans, integers and floats up to 64 bits are read."
        )
    return dtype


def check_samples(counts: dict[str, int], limits: DatasetLimits) -> int:
    """Return the number of samples, which must be the same for all arrays.

    Raises:
        InvalidDataset: the numbers differ, or there are no samples or too many.
    """
    if not counts:
        raise InvalidDataset("The dataset holds no arrays.")
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"'{name}' {count}" for name, count in list(counts.items())[:20])
        raise InvalidDataset(
            f"The arrays' sample counts (first dimension) differ: {listed}. The first dimension of"
            " every array is the sample, also where a model's input has it second: move it to the"
            " front (numpy.moveaxis)."
        )
    samples = next(iter(counts.values()))
    if not 0 < samples <= limits.samples:
        raise InvalidDataset(
            f"The dataset holds {samples} samples; 1 to {limits.samples} are read."
        )
    return samples


def describe_targets(array: NDArray[Any], limits: DatasetLimits) -> Targets:
    """Describe targets; whole numbers in one dimension are classes, counted from 0.

    Raises:
        InvalidDataset: there are none, class numbers are negative or too large, or values are not
            finite.
    """
    if not len(array):
        raise InvalidDataset("'targets' holds no samples.")
    if array.dtype.kind == "f":
        _check_finite(array)
    classes = None
    if array.dtype.kind in "iub" and array.ndim == 1:
        low, high = int(array.min()), int(array.max())
        if low < 0 or high >= limits.classes:
            raise InvalidDataset(
                f"'targets' holds class numbers from {low} to {high}; they count from 0 and stay"
                f" below {limits.classes}. Leave out samples without a class; store values as"
                " floats."
            )
        classes = high + 1
    return Targets(
        dtype=str(array.dtype),
        shape=list(array.shape),
        classes=classes,
        counts=None if classes is None else counts(array, classes),
    )


def _check_finite(targets: NDArray[Any]) -> None:
    """Refuse targets that no error can be measured against."""
    spoilt = [
        rows.start + int(row)
        for rows in chunks(targets)
        for row in np.flatnonzero(
            ~np.isfinite(targets[rows]).reshape(len(targets[rows]), -1).all(1)
        )
    ]
    if spoilt:
        raise InvalidDataset(
            f"'targets' holds NaN or infinity in {len(spoilt)} samples, {spoilt[0]} first: take"
            " these samples out of the dataset, or fill in their targets."
        )


def counts(numbers: NDArray[Any], classes: int) -> list[int] | None:
    """Return how many samples each class has; None where there are too many classes to list."""
    if classes > MAX_COUNTED:
        return None
    return [int(count) for count in np.bincount(numbers.astype(np.int64), minlength=classes)]


def cast(array: NDArray[Any], dtype: np.dtype[Any], name: str, path: Path) -> NDArray[Any]:
    """Return ``array`` as ``dtype``: the array itself, or a copy in ``path``, written in chunks.

    Raises:
        DatasetMismatch: a number does not fit.
    """
    if array.dtype == dtype and array.flags.c_contiguous:
        return array
    copy = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=array.shape)
    fits = np.can_cast(array.dtype, dtype)
    for rows in chunks(array):
        piece = array[rows]
        if not fits:
            _check_range(piece, dtype, name)
        copy[rows] = piece.astype(dtype)
    copy.flush()
    return copy


def chunks(array: NDArray[Any]) -> Iterator[slice]:
    """Yield slices of the first axis, of about 64 MiB each."""
    step = max(1, _CHUNK // max(1, array.nbytes // max(1, len(array))))
    for start in range(0, len(array), step):
        yield slice(start, start + step)


def _check_range(piece: NDArray[Any], dtype: np.dtype[Any], name: str) -> None:
    numbers = piece[np.isfinite(piece)]
    if not numbers.size:
        return
    low, high = numbers.min().item(), numbers.max().item()
    info = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    least, most = (
        end.item() if isinstance(end, np.floating) else end for end in (info.min, info.max)
    )
    if low < least or high > most:
        raise DatasetMismatch(
            f"Array '{name}' holds {low if low < least else high}, which does not fit the"
            f" model's {dtype}."
        )
