"""Tells whose rounding a difference between a framework and a graph is, by a run in float64."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workers.compression import faults
from workers.compression.intake.sources.program import Program, flat

_MOST_BYTES = 1 << 29
"""Of weights, which the run in float64 holds twice as large beside them."""


@dataclass(frozen=True)
class Difference:
    """How far a graph's output is from the framework's, in one run."""

    error: float
    """Relative to the output's largest value where that is above 1."""
    inputs: Sequence[Tensor] = ()
    place: int = 0
    """Which of the outputs it is."""
    output: NDArray[np.generic] | None = None


def warning(program: Program, difference: Difference, usual: float) -> str:
    """Return what is said of a large difference: whose rounding it is, where that can be told."""
    differ = (
        f"The graph's answers differ from {program.source}'s by {difference.error:.1e}: more than"
        f" the {usual:.0e} of most conversions."
    )
    assert difference.output is not None, "a difference is of an output"
    roundings = _roundings(program, difference, difference.output)
    if roundings is None:
        return differ
    of_graph, of_framework = roundings
    return (
        f"{differ} From what float64 gives, the graph is {of_graph:.1e} away, and {program.source}"
        f" itself {of_framework:.1e}."
    )


def _roundings(
    program: Program, difference: Difference, output: NDArray[np.generic]
) -> tuple[float, float] | None:
    """Return how far the graph and the framework are from what float64 gives.

    Both are relative as the difference is. None where the network is too large for it, or does not
    run in float64.
    """
    if sum(w.numel() * w.element_size() for w in program.weights.values()) > _MOST_BYTES:
        return None
    answer = program.run(difference.inputs)[difference.place]
    try:
        module = copy.deepcopy(program.module).double()
        wide = [each.double() if each.is_floating_point() else each for each in difference.inputs]
        with torch.no_grad():
            exact = flat(module(*wide))[difference.place]
    except Exception as error:  # noqa: BLE001 (the network's code decides; nothing depends on this run)
        faults.log(error)
        return None
    if exact.dtype != torch.float64 or tuple(exact.shape) != output.shape:
        return None
    scale = max(1.0, float(exact.abs().max()))
    of_graph = float((torch.from_numpy(output.astype(np.float64)) - exact).abs().max()) / scale
    return of_graph, float((answer.double() - exact).abs().max()) / scale
