"""Compares two graphs: a candidate must reproduce the outputs of the reference's trials."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compression import faults
from workers.compression.graph.pieces import open_graph
from workers.compression.graph.runtime import Arrays

_TOLERANCE = {"float64": 1e-4, "float32": 1e-4, "float16": 1e-2, "bfloat16": 5e-2}
"""Greatest error, relative to the largest output, by output dtype. What was float64 is computed in
float32."""

_NARROW = {"float16", "bfloat16"}
_STRING = ir.DataType.STRING

_SMALLEST = {"float16": 6e-5}
"""The smallest normal number of a narrow type, about: below it, rounding is no longer relative."""

_NOISE = 2.0
"""The factor of the error of the runtime's optimizer that counts as noise."""

_MOST_NOISE = 1e-2


@dataclass(frozen=True)
class Trial:
    """Inputs that the reference accepted, with its outputs."""

    sizes: Mapping[str, int]
    feeds: Arrays
    outputs: Arrays
    ends: Mapping[str, int] = field(default_factory=dict)
    """What the integers of each input are below."""
    noise: Mapping[str, float] = field(default_factory=dict)
    """How much onnxruntime's optimizer alone changes each output, relative to its largest value. A
    rewrite is allowed at least as much."""
    arithmetic: float = 0.0
    """The relative error of a reference that computes in half precision, whatever the types of its
    outputs."""


def arithmetic_of(model: ir.Model) -> float:
    """Return the tolerance for the narrowest type among the weights of a graph."""
    values = (value for graph in model.graphs() for value in graph.initializers.values())
    names = {str(v.dtype.numpy()) for v in values if v.dtype is not None and v.dtype != _STRING}
    return max(_TOLERANCE[name] for name in (names & _NARROW) | {"float32"})


def check(path: Path, trials: Sequence[Trial], nodes: int = 0) -> str | None:
    """Return how a graph's outputs differ from those of the trials, None if they agree.

    Args:
        path: the file of the graph.
        trials: the inputs and the expected outputs.
        nodes: the number of nodes of its main graph; a long graph is run in pieces.
    """
    try:
        run = open_graph(path, nodes)
        for trial in trials:
            outputs = run(trial.feeds, None)
            if reason := difference(trial.outputs, outputs, trial.noise, trial.arithmetic):
                return f"{reason} (sizes {dict(trial.sizes)})"
    except Exception as error:  # noqa: BLE001 (onnxruntime has one class for each status code)
        return f"it no longer runs: {faults.runtime_words(error)}"
    return None


def difference(
    expected: Arrays,
    outputs: Arrays,
    noise: Mapping[str, float] | None = None,
    arithmetic: float = 0.0,
) -> str | None:
    """Return which output differs beyond the tolerance of its type, None if all agree.

    Args:
        expected: the reference's outputs.
        outputs: the outputs to compare with them.
        noise: relative errors to allow for each output.
        arithmetic: a relative error to allow for all outputs.
    """
    if list(expected) != list(outputs):
        return f"the outputs are {list(outputs)} instead of {list(expected)}"
    for name, reference in expected.items():
        actual = outputs[name]
        if reference.dtype != actual.dtype or reference.shape != actual.shape:
            return f"output '{name}' is {actual.dtype}{list(actual.shape)}"
        tolerance = _TOLERANCE.get(str(reference.dtype))
        if tolerance is None:
            if not np.array_equal(reference, actual):
                return f"output '{name}' differs"
            continue
        tolerance = max(tolerance, arithmetic)
        allowed = max(tolerance, min(_NOISE * (noise or {}).get(name, 0.0), _MOST_NOISE))
        if (error := _relative_error(reference, actual)) > allowed:
            return f"output '{name}' differs by {error:.2g} of its largest value"
    return None


def with_noise(path: Path, trials: Sequence[Trial], nodes: int = 0) -> list[Trial]:
    """Measure how much the runtime's optimizer changes the reference's floating-point outputs.

    Args:
        path: the reference graph.
        trials: the trials of the reference.
        nodes: the number of nodes of its main graph; a long graph is run in pieces.
    """
    try:
        run = open_graph(path, nodes, optimize=True)
        optimized = [run(trial.feeds, None) for trial in trials]
    except Exception:  # noqa: BLE001 (an optimizer that fails moves nothing)
        return list(trials)
    return [
        replace(
            trial,
            noise={
                name: _relative_error(reference, outputs[name])
                for name, reference in trial.outputs.items()
                if reference.dtype.kind == "f" and reference.shape == outputs[name].shape
            },
        )
        for trial, outputs in zip(trials, optimized, strict=True)
    ]


def _relative_error(expected: NDArray[Any], outputs: NDArray[Any]) -> float:
    """Return the greatest error over the greatest expected magnitude; NaNs must coincide."""
    if expected.size == 0:
        return 0.0
    reference, actual = expected.astype(np.float64), outputs.astype(np.float64)
    finite = np.isfinite(reference)
    if not np.array_equal(reference[~finite], actual[~finite], equal_nan=True):
        return float("inf")
    if not finite.any():
        return 0.0
    reference, actual = reference[finite], actual[finite]
    scale = max(float(np.abs(reference).max()), _SMALLEST.get(str(expected.dtype), 1e-6))
    error = float(np.abs(reference - actual).max()) / scale
    return error if np.isfinite(error) else float("inf")
