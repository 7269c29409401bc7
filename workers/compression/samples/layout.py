"""How samples stand in what a graph reads and gives: along which axis, and how many at once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Axes = Mapping[str, int | None]
"""The axis that counts samples, by name; None where there is none."""


@dataclass(frozen=True)
class Layout:
    """Where samples stand. What is not named counts them along its first axis.

    ``samples.axis`` finds it by running a graph.
    """

    inputs: Axes = field(default_factory=dict)
    """None: a sample is all that the input reads, so that it takes one at a time."""
    outputs: Axes = field(default_factory=dict)
    """None: the output is not of single samples."""
    size: int = 1
    """Samples of a run; exactly so many where ``free`` is not set."""
    free: bool = True
    """Whether a run takes any number of samples."""

    def feed(self, name: str, rows: NDArray[Any]) -> NDArray[Any]:
        """Return samples ``[samples, …]`` as an input reads them."""
        axis = self.inputs.get(name, 0)
        moved = rows[0] if axis is None else np.moveaxis(rows, 0, axis)
        return np.asarray(moved, order="C")  # a number stays without axes

    def output_axis(self, name: str, rank: int) -> int | None:
        """Return the axis of an output of some dimensions that counts samples."""
        axis = self.outputs.get(name, 0)
        return axis if axis is not None and axis < rank else None


FIRST = Layout()
"""Samples along the first axis of all inputs and outputs, any number at once."""


def whole(names: Mapping[str, object]) -> Layout:
    """Return the layout of rows each of which is all that a run reads."""
    return Layout(dict.fromkeys(names), free=False)
