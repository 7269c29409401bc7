"""Arrays as a file reads and gives them: in integers on its own grid, or as they are."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def rounded_values(array: NDArray[Any], detail: dict[str, Any]) -> NDArray[Any]:
    """Round what a file reads in integers, to its grid; int64 is int32 there.

    Args:
        array: an input of the graph.
        detail: of the file's tensor: its ``dtype``, and ``quantization`` (scale, zero point).
    """
    scale, zero = detail["quantization"]
    if not scale or array.dtype.kind != "f":
        same: NDArray[Any] = array.astype(detail["dtype"])
        return same
    ends = np.iinfo(detail["dtype"])
    rounded = np.clip(np.round(array / scale) + zero, ends.min, ends.max)
    integers: NDArray[Any] = rounded.astype(detail["dtype"])
    return integers


def real_values(array: NDArray[Any], detail: dict[str, Any]) -> NDArray[Any]:
    """Return the numbers that a file's integers stand for."""
    scale, zero = detail["quantization"]
    if not scale or array.dtype.kind == "f":
        return array
    real: NDArray[Any] = ((array.astype(np.float32) - zero) * scale).astype(np.float32)
    return real
