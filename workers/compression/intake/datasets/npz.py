"""Reads ``.npz``, a zip of ``.npy`` arrays, without numpy's loader and its pickles."""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.datasets import DatasetDescription, ImageOptions
from app.domain.models import TensorSpec
from app.domain.problems import InvalidDataset
from workers.compression.intake import zips
from workers.compression.intake.datasets import glimpses
from workers.compression.intake.datasets.arrays import (
    Arrays,
    Header,
    cast,
    check_samples,
    describe_targets,
    read_header,
)
from workers.compression.intake.limits import MIB, DatasetLimits

_TARGETS = "targets"
_CHUNK = MIB
_DIRECTORY = 16 * MIB
_MAX_TARGETS = 2048 * MIB


def recognises(upload: Path) -> bool:
    """Return whether a zip holds ``.npy`` members and nothing else."""
    try:
        if zips.directory_bytes(upload) > _DIRECTORY:
            return False
        with zipfile.ZipFile(upload) as archive:
            names = archive.namelist()
    except zips.ERRORS as error:
        raise InvalidDataset(f"The archive is broken ({error}).") from None
    return bool(names) and all(name.endswith(".npy") for name in names)


def describe(upload: Path, limits: DatasetLimits) -> DatasetDescription:
    """Check every array's header and length."""
    with _open(upload, limits) as archive:
        headers = {name: _check(archive, entry, name, limits) for name, entry in _members(archive)}
        if scalars := [name for name, header in headers.items() if not header.shape]:
            raise InvalidDataset(f"Array '{scalars[0]}' has no sample dimension.")
        values = _read(archive, headers[_TARGETS]) if _TARGETS in headers else None
        targets = None if values is None else describe_targets(values, limits)
        samples = check_samples({n: h.shape[0] for n, h in headers.items()}, limits)
        shown = glimpses.positions(samples)
        rows = {
            name: _rows(archive, name, header, shown)
            for name, header in headers.items()
            if name != _TARGETS and _showable(header)
        }
    arrays = [
        TensorSpec(name=name, dtype=str(header.dtype.newbyteorder("=")), shape=list(header.shape))
        for name, header in headers.items()
        if name != _TARGETS
    ]
    return DatasetDescription(
        format="npz",
        samples=samples,
        arrays=arrays,
        targets=targets,
        glimpses=glimpses.glimpses(rows, shown, values, targets),
    )


def arrays(
    upload: Path,
    inputs: Sequence[TensorSpec],
    data: Path,
    _options: ImageOptions,
    limits: DatasetLimits,
) -> Arrays:
    """Write the model's inputs and the targets to ``data``, one file an array."""
    input_dtypes = {tensor.name: np.dtype(tensor.dtype) for tensor in inputs}
    fitted: Arrays = {}
    with _open(upload, limits) as archive:
        for index, (name, entry) in enumerate(_members(archive)):
            if name not in input_dtypes and name != _TARGETS:
                continue
            path = data / f"{index}.npy"
            with archive.open(entry) as source, path.open("wb") as target:
                while piece := source.read(_CHUNK):
                    target.write(piece)
            mapped = np.load(path, mmap_mode="r", allow_pickle=False)
            dtype = input_dtypes.get(name, mapped.dtype.newbyteorder("="))
            fitted[name] = cast(mapped, dtype, name, data / f"{index}-cast.npy")
    return fitted


def _open(upload: Path, limits: DatasetLimits) -> zipfile.ZipFile:
    """Open the zip after checking that its directory is small and its entries are plain."""
    try:
        archive = zipfile.ZipFile(upload)
    except zips.ERRORS as error:
        raise InvalidDataset(f"The .npz is broken ({error}).") from None
    entries = archive.infolist()
    names = [entry.filename.casefold() for entry in entries]
    if len(entries) > limits.arrays or len(set(names)) < len(names):
        archive.close()
        raise InvalidDataset(f"The .npz holds a name twice, or more than {limits.arrays} arrays.")
    return archive


def _members(archive: zipfile.ZipFile) -> list[tuple[str, zipfile.ZipInfo]]:
    return [(entry.filename.removesuffix(".npy"), entry) for entry in archive.infolist()]


def _check(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str, limits: DatasetLimits
) -> Header:
    """Read an array's header and count its bytes; the sizes in the archive are not trusted."""
    if entry.flag_bits & 1 or entry.compress_type not in {0, zipfile.ZIP_DEFLATED}:
        raise InvalidDataset(f"Array '{name}' is encrypted, or packed with an unusual method.")
    try:
        with archive.open(entry) as file:
            header = read_header(file, name, limits)
            remaining = header.nbytes
            while remaining >= 0 and (piece := file.read(_CHUNK)):
                remaining -= len(piece)
    except zips.ERRORS as error:
        raise InvalidDataset(f"Array '{name}' is broken ({error}).") from None
    if remaining:
        raise InvalidDataset(
            f"Array '{name}' should hold {header.nbytes} bytes by its shape {header.shape} and"
            f" dtype {header.dtype}, but does not."
        )
    return header


def _showable(header: Header) -> bool:
    """Return whether single samples can be read: each is contiguous and not too large."""
    sample = header.nbytes // header.shape[0]
    return not header.fortran and 0 < sample <= glimpses.MOST_BYTES


def _rows(
    archive: zipfile.ZipFile, name: str, header: Header, positions: list[int]
) -> NDArray[Any]:
    """Return the samples at some positions of an array."""
    size = header.nbytes // header.shape[0]
    with archive.open(f"{name}.npy") as file:
        rows = []
        for position in positions:
            file.seek(header.length + position * size)
            rows.append(np.frombuffer(file.read(size), dtype=header.dtype))
    values = np.stack(rows).reshape(len(positions), *header.shape[1:])
    return values.astype(header.dtype.newbyteorder("="), copy=False)


def _read(archive: zipfile.ZipFile, header: Header) -> NDArray[Any]:
    """Return the targets in memory; their length was checked."""
    if header.nbytes > _MAX_TARGETS:
        raise InvalidDataset(f"'targets' is larger than {_MAX_TARGETS} bytes.")
    with archive.open(f"{_TARGETS}.npy") as file:
        file.read(header.length)
        array = np.frombuffer(file.read(header.nbytes), dtype=header.dtype)
    array = array.astype(header.dtype.newbyteorder("="))
    return array.reshape(header.shape, order="F" if header.fortran else "C")
