"""What a layer reads, and what it should give, added up over positions of many samples."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compression.graph.editor import constant
from workers.compression.graph.operators import operand

POSITIONS = 8192
"""Of all samples together, that a layer is looked at."""

Rows = NDArray[np.float64]


@dataclass
class LayerMoments:
    """Sums over positions of inputs ``x`` and wanted outputs ``y``.

    Both are counted from ``origin``, the mean of the first rows, so that what is large and alike
    everywhere does not eat the digits of what differs.
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
    def of(cls, rows: NDArray[Any], answers: NDArray[Any]) -> "LayerMoments":
        """Start with some rows ``[positions, inputs]`` and ``[positions, outputs]``."""
        reads, gives = rows.shape[1], answers.shape[1]
        sums = (np.zeros(n) for n in (reads, gives, (reads, reads), (reads, gives)))
        origin = (rows.mean(axis=0, dtype=np.float64), answers.mean(axis=0, dtype=np.float64))
        found = cls(0, origin, *sums)
        found.add(rows, answers)
        return found

    def add(self, rows: NDArray[Any], answers: NDArray[Any]) -> None:
        """Add more rows."""
        x = (rows - self.origin[0]).astype(np.float32)
        y = (answers - self.origin[1]).astype(np.float32)
        self.count += len(x)
        self.x += x.sum(axis=0)
        self.y += y.sum(axis=0)
        self.xx += x.T @ x
        self.xy += x.T @ y

    def finite(self) -> bool:
        """Return whether all that was added was a finite number."""
        return bool(np.isfinite(self.xx).all() and np.isfinite(self.xy).all())

    def means(self) -> tuple[Rows, Rows]:
        """Return the mean input ``[inputs]`` and output ``[outputs]``."""
        return self.origin[0] + self.x / self.count, self.origin[1] + self.y / self.count

    def around(self, x: Rows, y: Rows) -> tuple[Rows, Rows]:
        """Return ``Σ (x-a)·(x-a)ᵀ`` and ``Σ (x-a)·(y-b)ᵀ`` for a point ``a``, ``b``."""
        a, b = x - self.origin[0], y - self.origin[1]
        xx = self.xx - np.outer(self.x, a) - np.outer(a, self.x) + self.count * np.outer(a, a)
        xy = self.xy - np.outer(self.x, b) - np.outer(a, self.y) + self.count * np.outer(a, b)
        return xx, xy


def look(
    node: ir.Node, x: NDArray[Any], y: NDArray[Any], positions: int, random: np.random.Generator
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Pick positions of a layer's run.

    Args:
        node: a Conv of images, a Gemm or a MatMul.
        x: what it reads.
        y: what it should give, or more channels of that.
        positions: at most.
        random: chooses them.

    Returns:
        What it reads there ``[positions, inputs]``, the kernel included, and ``[positions,
        outputs]``.
    """
    return (_pixels if node.op_type == "Conv" else _vectors)(node, x, y, positions, random)


def _vectors(
    _node: ir.Node, x: NDArray[Any], y: NDArray[Any], positions: int, random: np.random.Generator
) -> tuple[NDArray[Any], NDArray[Any]]:
    rows, answers = x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1])
    chosen = random.choice(len(rows), min(positions, len(rows)), replace=False)
    return rows[chosen], answers[chosen]


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
