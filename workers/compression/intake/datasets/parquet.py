"""Reads Parquet: one column for each input; lists become the dimensions after the sample's."""

from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from app.domain.datasets import DatasetDescription, ImageOptions, sample_axes
from app.domain.models import TensorSpec
from app.domain.problems import DatasetMismatch, InvalidDataset
from workers.compression.intake.datasets import glimpses
from workers.compression.intake.datasets.arrays import (
    Arrays,
    cast,
    check_samples,
    describe_targets,
)
from workers.compression.intake.limits import MIB, DatasetLimits

_TARGETS = "targets"
_ROWS = 1024
_THRIFT = 16 * MIB
_ERRORS = (pa.ArrowException, OSError, ValueError, KeyError, IndexError, OverflowError)


def describe(upload: Path, limits: DatasetLimits) -> DatasetDescription:
    """Read every numeric column once, for its type, its shape and the actual number of rows."""
    specs: dict[str, TensorSpec] = {}
    rows = 0
    targets: list[NDArray[Any]] = []
    file = _open(upload, limits)
    shown = glimpses.positions(max(file.metadata.num_rows, 1))
    shown_rows: dict[str, list[NDArray[Any]]] = {}
    for batch in _batches(file, _numeric(file)):
        for name, array in batch.items():
            spec = TensorSpec(name=name, dtype=str(array.dtype), shape=list(array.shape[1:]))
            if specs.setdefault(name, spec) != spec:
                raise InvalidDataset(f"Column '{name}' has rows of different lengths.")
            if name != _TARGETS:
                inside = [at - rows for at in shown if rows <= at < rows + len(array)]
                shown_rows.setdefault(name, []).append(array[inside])
        rows += len(next(iter(batch.values())))
        if _TARGETS in batch:
            targets.append(batch[_TARGETS])
        if rows > limits.samples:
            break
    if rows != file.metadata.num_rows:
        raise InvalidDataset(f"The file claims {file.metadata.num_rows} rows but holds {rows}.")
    samples = check_samples(dict.fromkeys(specs, rows), limits)
    values = np.concatenate(targets) if targets else None
    described = None if values is None else describe_targets(values, limits)
    arrays = [
        spec.model_copy(update={"shape": [samples, *spec.shape]})
        for name, spec in specs.items()
        if name != _TARGETS
    ]
    return DatasetDescription(
        format="parquet",
        samples=samples,
        arrays=arrays,
        targets=described,
        glimpses=glimpses.glimpses(
            {name: np.concatenate(pieces) for name, pieces in shown_rows.items()},
            shown,
            values,
            described,
        ),
    )


def arrays(
    upload: Path,
    inputs: Sequence[TensorSpec],
    data: Path,
    _options: ImageOptions,
    limits: DatasetLimits,
) -> Arrays:
    """Write the inputs' columns, reshaped to the inputs, and the targets to ``data``."""
    file = _open(upload, limits)
    specs_by_name = {tensor.name: tensor for tensor in inputs}
    columns = [name for name in _numeric(file) if name in specs_by_name or name == _TARGETS]
    rows, start = file.metadata.num_rows, 0
    written: dict[str, NDArray[Any]] = {}
    for batch in _batches(file, columns):
        for index, (name, array) in enumerate(batch.items()):
            if name not in written:
                shape = (
                    _shape(array, specs_by_name[name]) if name in specs_by_name else array.shape[1:]
                )
                written[name] = np.lib.format.open_memmap(
                    data / f"{index}.npy", mode="w+", dtype=array.dtype, shape=(rows, *shape)
                )
            target = written[name][start : start + len(array)]
            target[...] = array.reshape(target.shape)
        start += len(next(iter(batch.values())))
    return {
        name: cast(array, np.dtype(specs_by_name[name].dtype), name, data / f"{index}-cast.npy")
        if name in specs_by_name
        else array
        for index, (name, array) in enumerate(written.items())
    }


def _open(upload: Path, limits: DatasetLimits) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(
            upload,
            memory_map=False,
            thrift_string_size_limit=_THRIFT,
            thrift_container_size_limit=limits.classes * 10,
        )
    except _ERRORS as error:
        raise InvalidDataset(f"The file is no readable Parquet ({_line(error)}).") from None
    metadata = file.metadata
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    if metadata.num_columns > limits.arrays or metadata.num_rows > limits.samples:
        raise InvalidDataset(
            f"The file holds more than {limits.arrays} columns or {limits.samples} rows."
        )
    if sum(group.total_byte_size for group in groups) > limits.total:
        raise InvalidDataset(f"The file unpacks to more than {limits.total} bytes.")
    return file


def _numeric(file: pq.ParquetFile) -> list[str]:
    """Return the columns of numbers and of lists of numbers; other columns cannot be inputs."""
    names = []
    for field in file.schema_arrow:
        kind = _storage(field.type)
        while _is_list(kind):
            kind = _storage(kind.value_type)
        if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
            names.append(field.name)
        elif field.name == _TARGETS:
            raise InvalidDataset(
                f"Column 'targets' is {kind}; store class numbers from 0, or values."
            )
    if not names or len(set(names)) < len(names):
        raise InvalidDataset("The file holds no columns of numbers, or one name twice.")
    return names


def _batches(file: pq.ParquetFile, columns: list[str]) -> Iterator[Arrays]:
    """Yield the columns of at most 1,024 rows at a time."""
    try:
        for batch in file.iter_batches(_ROWS, columns=columns, use_threads=False):
            yield {
                name: _to_numpy(column, name)
                for name, column in zip(batch.schema.names, batch.columns, strict=True)
            }
    except _ERRORS as error:
        raise InvalidDataset(f"The file's data is broken ({_line(error)}).") from None


def _to_numpy(column: Any, name: str) -> NDArray[Any]:
    """Return a column as ``[rows, ...]``; every list of one level has the same length."""
    shape = [len(column)]
    column = column.storage if isinstance(column, pa.ExtensionArray) else column
    while _is_list(column.type):
        _refuse_nulls(column, name)
        inner = column.flatten()
        rows = prod(shape)
        if rows == 0 or len(inner) % rows or not _regular(column, len(inner) // rows):
            raise InvalidDataset(f"Column '{name}' has lists of different lengths.")
        shape.append(len(inner) // rows)
        column = inner.storage if isinstance(inner, pa.ExtensionArray) else inner
    _refuse_nulls(column, name)
    return np.asarray(column.to_numpy(zero_copy_only=False)).reshape(shape)


def _regular(column: Any, length: int) -> bool:
    if pa.types.is_fixed_size_list(column.type):
        return True
    lengths = column.value_lengths().to_numpy(zero_copy_only=False)
    return bool((lengths == length).all())


def _refuse_nulls(column: Any, name: str) -> None:
    if column.null_count:
        raise InvalidDataset(f"Column '{name}' has missing values; fill or drop them.")


def _is_list(kind: Any) -> bool:
    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _storage(kind: Any) -> Any:
    return kind.storage_type if isinstance(kind, pa.ExtensionType) else kind


def _shape(array: NDArray[Any], tensor: TensorSpec) -> tuple[int, ...]:
    """Return the shape of a row: the input's without the axis that counts samples.

    One dynamic dimension may follow from the data. A row with as many dimensions as the input
    keeps its shape. Otherwise the first axis that may count samples is left out, if the numbers of
    the row fill the other axes.

    Raises:
        DatasetMismatch: the row's numbers do not fill the shape.
    """
    have = array.shape[1:]
    if sample_axes(have, tensor.shape):
        return have
    elements, axes = prod(have), sample_axes(["any"] * (len(tensor.shape) - 1), tensor.shape)
    without = [_without(tensor.shape, axis) for axis in dict.fromkeys([0, *axes])]
    if not any(isinstance(size, str) for size in tensor.shape):
        without.append(list(tensor.shape))
    fitting = [filled for dims in without if (filled := _filled(elements, dims)) is not None]
    if not fitting:
        likely = ", ".join(map(str, _without(tensor.shape, axes[0])))
        raise DatasetMismatch(
            f"Column '{tensor.name}' has {elements} numbers a row, which do not fill the input's"
            f" shape [{likely}]."
        )
    return fitting[0]


def _without(dims: Sequence[int | str], axis: int | None) -> list[int | str]:
    return [size for index, size in enumerate(dims) if index != axis]


def _filled(elements: int, dims: Sequence[int | str]) -> tuple[int, ...] | None:
    """Return static dimensions that ``elements`` elements fill; None if there are none."""
    static_size = prod(size for size in dims if isinstance(size, int))
    dynamic = sum(isinstance(size, str) for size in dims)
    if (
        dynamic > 1
        or static_size == 0
        or elements % static_size
        or (not dynamic and elements != static_size)
    ):
        return None
    return tuple(size if isinstance(size, int) else elements // static_size for size in dims)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
