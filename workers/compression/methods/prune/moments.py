"""Sums of a layer's inputs and target outputs, and of their products, over many positions."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compression.graph.editor import constant
from workers.compression.graph.operators import operand

POSITIONS = 8192
"""The number of positions, over all samples, that the sums of a layer are taken over."""

Rows = NDArray[np.float64]


@dataclass
class LayerMoments:
    """Sums over positions of inputs ``x`` and target outputs ``y``.

    Both are taken relative to ``origin``, the mean of the first rows: a large common offset would
    cost numerical precision.
    """

    count: int
    origin: tuple[Rows, Rows]
    x: Rows
    """``Σ x`` ``[inputs]``."""
    y: Rows
    """``Σ y`` ``[outputs]``."""
    xx: Rows
    """``Σ x·xᵀ`` ``[inputs, inputs]``."""
    xy: Rows
    """``Σ x·yᵀ`` ``[inputs, outputs]``."""

    @classmethod
    def of(cls, rows: NDArray[Any], outputs: NDArray[Any]) -> "LayerMoments":
        """Return the sums of some rows ``[positions, inputs]`` and ``[positions, outputs]``."""
        input_count, output_count = rows.shape[1], outputs.shape[1]
        sums = (
            np.zeros(n)
            for n in (
                input_count,
                output_count,
                (input_count, input_count),
                (input_count, output_count),
            )
        )
        origin = (rows.mean(axis=0, dtype=np.float64), outputs.mean(axis=0, dtype=np.float64))
        moments = cls(0, origin, *sums)
        moments.add(rows, outputs)
        return moments

    def add(self, rows: NDArray[Any], outputs: NDArray[Any]) -> None:
        """Add more rows."""
        x = (rows - self.origin[0]).astype(np.float32)
        y = (outputs - self.origin[1]).astype(np.float32)
        self.count += len(x)
        self.x += x.sum(axis=0)
        self.y += y.sum(axis=0)
        self.xx += x.T @ x
        self.xy += x.T @ y

    def finite(self) -> bool:
        """Return whether all rows that were added are finite."""
        return bool(np.isfinite(self.xx).all() and np.isfinite(self.xy).all())

    def means(self) -> tuple[Rows, Rows]:
        """Return the mean input ``[inputs]`` and output ``[outputs]``."""
        return self.origin[0] + self.x / self.count, self.origin[1] + self.y / self.count

    def centred_at(self, x: Rows, y: Rows) -> tuple[Rows, Rows]:
        """Return ``Σ (x-a)·(x-a)ᵀ`` and ``Σ (x-a)·(y-b)ᵀ`` for a point ``a``, ``b``."""
        a, b = x - self.origin[0], y - self.origin[1]
        xx = self.xx - np.outer(self.x, a) - np.outer(a, self.x) + self.count * np.outer(a, a)
        xy = self.xy - np.outer(self.x, b) - np.outer(a, self.y) + self.count * np.outer(a, b)
        return xx, xy


def sample_positions(
    node: ir.Node, x: NDArray[Any], y: NDArray[Any], positions: int, random: np.random.Generator
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Draw positions of a layer's run.

    Args:
        node: a Conv of images, a Gemm or a MatMul.
        x: the layer's input.
        y: the target output; it may have more channels than the layer.
        positions: the greatest number of positions.
        random: draws the positions.

    Returns:
        The inputs at these positions, ``[positions, inputs]``, with the elements of the kernel as
        inputs, and the target outputs, ``[positions, outputs]``.
    """
    return (_pixels if node.op_type == "Conv" else _vectors)(node, x, y, positions, random)


def _vectors(
    _node: ir.Node, x: NDArray[Any], y: NDArray[Any], positions: int, random: np.random.Generator
) -> tuple[NDArray[Any], NDArray[Any]]:
    rows, outputs = x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1])
    chosen = random.choice(len(rows), min(positions, len(rows)), replace=False)
    return rows[chosen], outputs[chosen]


def _pixels(
    node: ir.Node, x: NDArray[Any], y: NDArray[Any], positions: int, random: np.random.Generator
) -> tuple[NDArray[Any], NDArray[Any]]:
    weight = operand(node, 1)
    assert weight is not None
    get = node.attributes.get_ints
    top, left, bottom, right = get("pads", (0, 0, 0, 0))
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    size = len(y) * y.shape[2] * y.shape[3]
    chosen = random.choice(size, min(positions, size), replace=False)
    sample, row, column = np.unravel_index(chosen, (len(y), *y.shape[2:]))
    down, across = (
        place[:, None] * stride + np.arange(size) * dilation
        for place, stride, size, dilation in zip(
            (row, column), get("strides", (1, 1)), constant(weight).shape[2:],
            get("dilations", (1, 1)), strict=True,
        )
    )  # fmt: skip
    patches = padded[sample[:, None, None], :, down[:, :, None], across[:, None, :]]
    return np.moveaxis(patches, -1, 1).reshape(len(chosen), -1), y[sample, :, row, column]
