"""Rounds weights up or down so that the errors of a layer's outputs cancel.

The objective is that of AdaRound (Nagel et al., "Up or down? Adaptive rounding for post-training
quantization", 2020): the squared error of the layer's outputs on data, where each weight may be
rounded up or down. A linear layer's error is a quadratic form of its weights, which needs sums of
products of inputs and no inputs. It is minimised by cyclic coordinate descent (QuantEase, Behdin et
al. 2023) in place of a relaxation that is trained. The first turn begins at the weights before
rounding, so that later columns make up for earlier ones; each further turn lowers the error.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers.compression.methods.quantize.levels import Array, Levels

_TURNS = 5
"""The greatest number of turns through all columns."""
_BLOCK = 64
"""Columns whose effect on all others is computed at once."""
_DAMPING = 0.01
"""The pull towards the weights before rounding, relative to the mean power of the inputs."""


def work(weights: tuple[int, ...]) -> float:
    """Return the multiply-accumulates of a descent on weights ``[groups, outputs, inputs]``."""
    groups, outputs, inputs = weights
    return float(groups * (_TURNS + 2) * outputs * inputs**2)


def descend(weights: Array, levels: Levels, second: Array, cross: Array) -> Array:
    """Return rounded weights with a small squared error of the outputs.

    Args:
        weights: ``[groups, outputs, inputs]``.
        levels: what weights may be rounded to.
        second: the second moments of the inputs that the rounded layer reads, ``[groups, inputs,
            inputs]``.
        cross: those with the inputs that the layer reads in float, ``[groups, inputs of the rounded
            layer, inputs]``.

    Returns:
        The weights, ``[groups, outputs, inputs]``; no output's error is greater than with the
        nearest levels.
    """
    pull = _DAMPING * np.trace(second, axis1=1, axis2=2) / second.shape[-1] + np.float32(1e-12)
    diagonal = np.eye(second.shape[-1], dtype=np.float32) * pull[:, None, None]
    problem = _Problem(weights, levels, second + diagonal, weights @ (cross + diagonal).mT)
    nearest = levels.nearest(weights)
    rounded = problem.solved()
    better = problem.error(rounded) < problem.error(nearest)
    return np.where(better[..., None], rounded, nearest)


@dataclass(frozen=True)
class _Problem:
    """The least ``r·H·r - 2·r·t`` for each row ``r`` of rounded weights."""

    weights: Array
    levels: Levels
    second: Array
    """``H``, ``[groups, inputs, inputs]``."""
    target: Array
    """``t``, ``[groups, outputs, inputs]``."""

    def error(self, rounded: Array) -> NDArray[np.float64]:
        """Return the error of each output, up to a constant, ``[groups, outputs]``."""
        error: NDArray[np.float64] = np.sum(
            rounded * (rounded @ self.second - 2 * self.target), -1, dtype=np.float64
        )
        return error

    def solved(self) -> Array:
        """Return weights that no change of a single one improves, or those of the last turn."""
        least, most = self.levels.around(self.weights)
        middle = (least + most) / 2
        values, slope = self.weights.copy(), self.weights @ self.second - self.target
        curvature = np.diagonal(self.second, axis1=1, axis2=2)
        for _ in range(_TURNS):
            before = values.copy()
            for start in range(0, values.shape[-1], _BLOCK):
                block = slice(start, start + _BLOCK)
                within, moved = slope[..., block].copy(), values[..., block].copy()
                for column in range(moved.shape[-1]):
                    at = start + column
                    wanted = values[..., at] - within[..., column] / curvature[:, None, at]
                    up = wanted > middle[..., at]
                    fresh = np.where(up, most[..., at], least[..., at])
                    change = fresh - values[..., at]
                    within += change[..., None] * self.second[:, None, at, block]
                    values[..., at] = fresh
                slope += (values[..., block] - moved) @ self.second[:, block]
            if np.array_equal(values, before):
                break
        return values
