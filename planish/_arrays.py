"""Data in memory as a file that the service reads."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from planish.types import Tensor

Data = str | os.PathLike[str] | Mapping[str, Any] | Any
"""A path; or in memory: a dict of arrays, one array (NumPy, torch, …), or a DataFrame."""

TARGETS = "targets"


def as_file(
    data: Data, inputs: Sequence[Tensor] | None, targets: Any, directory: str | Path
) -> Path:
    """Return ``data`` as a file.

    Args:
        data: see ``Data``.
        inputs: of the model that the data is for; they name what has no name.
        targets: an array, or the name of a column.
        directory: where the file is written, unless it is there already.

    Raises:
        ValueError: there is no telling what the data is; it says why.
    """
    if isinstance(data, str | os.PathLike):
        if targets is not None:
            raise ValueError("a file has its targets inside: leave out 'targets'")
        return Path(data)
    import numpy as np

    file = Path(directory) / "data.npz"
    np.savez(file, allow_pickle=False, **_arrays(data, inputs or (), targets))
    return file


def _arrays(data: Any, inputs: Sequence[Tensor], targets: Any) -> dict[str, Any]:
    """Return the arrays of a dataset by name."""
    if hasattr(data, "columns") and not isinstance(data, Mapping):
        return _columns(data, inputs, targets)
    if isinstance(data, Mapping):
        named = {str(name): _array(each) for name, each in data.items()}
    elif len(inputs) == 1:
        named = {inputs[0].name: _array(data)}
    else:
        raise ValueError(
            "one array needs the name of its input: pass model=… where the model has one input, or"
            " a dict {input: array}"
        )
    return named if targets is None else {**named, TARGETS: _array(targets)}


def _columns(frame: Any, inputs: Sequence[Tensor], targets: Any) -> dict[str, Any]:
    """Return a DataFrame's columns; where they are not inputs themselves, as the only input."""
    import numpy as np

    columns = {str(name): _array(frame[name]) for name in frame.columns}
    if isinstance(targets, str):
        if targets not in columns:
            raise ValueError(f"the DataFrame has no column {targets!r}")
        columns[TARGETS] = columns.pop(targets)
    elif targets is not None:
        columns[TARGETS] = _array(targets)
    if len(inputs) != 1 or inputs[0].name in columns:
        return columns
    answers = {name: columns.pop(name) for name in (TARGETS,) if name in columns}
    table = np.stack([*columns.values()], axis=1).astype(inputs[0].dtype)
    return {inputs[0].name: table, **answers}


def _array(values: Any) -> Any:
    """Return an array; lists in a column become its further axes."""
    import numpy as np

    array = np.asarray(values)
    if array.dtype == object:
        try:
            array = np.stack([np.asarray(each) for each in array])
        except ValueError as error:
            raise ValueError(f"rows of one array differ in shape ({error})") from None
    if array.dtype == object:
        raise ValueError("an array holds objects that are no numbers")
    return array
