"""What a layer reads at positions of its run that are drawn at random."""

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compression.graph.editor import constant
from workers.compression.graph.operators import operand

Places = tuple[NDArray[np.intp], ...]
"""Positions of outputs: the indices along each axis but the channels'; for products, the rows."""


def is_plain(node: ir.Node) -> bool:
    """Return whether a layer reads its input as ``read_at`` expects."""
    if node.op_type == "Conv":
        return node.attributes.get_string("auto_pad", "NOTSET") == "NOTSET"
    return node.op_type == "MatMul" or not node.attributes.get_int("transA", 0)


def read_at(
    node: ir.Node, x: NDArray[Any], positions: int, random: np.random.Generator
) -> tuple[NDArray[Any], Places]:
    """Draw positions of a layer's run.

    Args:
        node: a plain Conv, Gemm or MatMul.
        x: the layer's input, ``[N, C, …]`` for a Conv and ``[…, C]`` for a product.
        positions: the greatest number of positions.
        random: draws the positions.

    Returns:
        What the layer reads there, ``[positions, inputs]``, with the elements of the kernel as
        inputs, those of one channel together; and the positions. A Conv of several groups reads all
        of them.
    """
    if node.op_type != "Conv":
        rows = x.reshape(-1, x.shape[-1])
        places = _drawn(rows.shape[:1], positions, random)
        return rows[places], places
    windows = _windows(node, x)
    rank = x.ndim - 2
    places = _drawn((len(x), *windows.shape[2 : 2 + rank]), positions, random)
    read = np.moveaxis(windows, 1, 1 + rank)[places]
    return read.reshape(len(read), -1), places


def _drawn(shape: tuple[int, ...], positions: int, random: np.random.Generator) -> Places:
    """Draw positions of an array of a shape."""
    size = int(np.prod(shape))
    chosen = random.choice(size, min(positions, size), replace=False)
    return np.unravel_index(chosen, shape)


def _windows(node: ir.Node, x: NDArray[Any]) -> NDArray[Any]:
    """Return a view of what a Conv reads, ``[N, C, *outputs, *kernel]``."""
    weight = operand(node, 1)
    assert weight is not None, "a layer has a weight"
    rank, get = x.ndim - 2, node.attributes.get_ints
    pads = get("pads", (0,) * (2 * rank))
    around = [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)]
    dilations = get("dilations", (1,) * rank)
    kernel = constant(weight).shape[2:]
    extents = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(x, around), extents, tuple(range(2, x.ndim))
    )
    steps = (*get("strides", (1,) * rank), *dilations)
    return windows[(slice(None), slice(None), *(slice(None, None, step) for step in steps))]
