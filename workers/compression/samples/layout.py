"""The layout of samples in inputs and outputs: the axis of each, and the samples of a run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Axes = Mapping[str, int | None]
"""The axis that counts samples, by name; None where there is none."""


@dataclass(frozen=True)
class Layout:
    """The axis of samples of each input and output; for those not named it is the first axis.

    ``samples.axis`` finds it by running a graph.
    """

    inputs: Axes = field(default_factory=dict)
    """The axis by input. None: the input has no axis of samples."""
    outputs: Axes = field(default_factory=dict)
    """The axis by output. None: the output does not belong to single samples."""
    size: int = 1
    """The number of samples of a run; a fixed number unless ``free`` is set."""
    free: bool = True
    """Whether a run takes any number of samples."""

    def feed(self, name: str, rows: NDArray[Any]) -> NDArray[Any]:
        """Return samples ``[samples, …]`` as an input takes them."""
        axis = self.inputs.get(name, 0)
        fed = rows[0] if axis is None else np.moveaxis(rows, 0, axis)
        return np.asarray(fed, order="C")  # a scalar keeps its rank of 0

    def output_axis(self, name: str, rank: int) -> int | None:
        """Return the axis of an output of some dimensions that counts samples."""
        axis = self.outputs.get(name, 0)
        return axis if axis is not None and axis < rank else None


FIRST = Layout()
"""Samples along the first axis of all inputs and outputs, any number at once."""


def whole(names: Mapping[str, object]) -> Layout:
    """Return the layout in which one row is the complete input of a run."""
    return Layout(dict.fromkeys(names), free=False)
