"""Runs a graph on samples and returns values from inside it."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compression.graph import runtime
from workers.compression.graph.editor import Editor
from workers.compression.progress import Advance
from workers.compression.samples.context import Samples
from workers.compression.targets.onnx import run

AXES_AS_INPUT = 18
"""The first opset whose ReduceMax, ReduceMean and ReduceMin read their axes."""

_FEWEST = 16
"""The number of samples that there is always time for."""

Probe = Callable[[Editor], list[str]]
"""Adds outputs to a graph, and returns their names."""


def runs(
    model: ir.Model,
    probe: Probe,
    samples: Samples,
    threads: int,
    advance: Advance,
    has_time: Callable[[], bool] = lambda: True,
) -> Iterator[list[NDArray[Any]]]:
    """Yield, for each batch of samples, the values that a probe observes.

    Args:
        model: the graph; not changed.
        probe: adds the observed values as outputs to a copy of the graph; returns their names.
        samples: one pass runs over all of them.
        threads: number of threads to compute with.
        advance: called with the fraction done.
        has_time: whether there is time for more than a few samples.
    """
    probed = model.clone()
    names = probe(Editor(probed))
    session = runtime.session_of(probed, threads=threads)
    done = 0
    for feeds, rows in samples.runs():
        if done >= _FEWEST and not has_time():
            return
        yield run(session, names, feeds)
        done += len(rows)
        advance(done / len(samples))


def totals(
    model: ir.Model, probe: Probe, samples: Samples, threads: int, advance: Advance
) -> list[NDArray[np.float64]]:
    """Return the values that a probe observes, summed over all batches; see ``runs``."""
    sums: list[NDArray[np.float64]] = []
    for batch in runs(model, probe, samples, threads, advance):
        doubles = [array.astype(np.float64) for array in batch]
        sums = [a + b for a, b in zip(sums, doubles, strict=True)] if sums else doubles
    return sums


def show(edit: Editor, node: ir.Node, dtype: ir.DataType = ir.DataType.FLOAT) -> str:
    """Append a node to a graph and make its result an output; return the name of that output."""
    value = node.outputs[0]
    value.type = ir.TensorType(dtype)
    edit.graph.append(node)
    edit.graph.outputs.append(value)
    return str(value.name)


def values_of(names: Sequence[str]) -> Probe:
    """Observe whole tensors of the main graph, by name."""

    def probe(edit: Editor) -> list[str]:
        values = ir.convenience.create_value_mapping(edit.graph)
        return [
            name
            if values[name].is_graph_output()
            else show(edit, edit.node("Identity", [values[name]], f"{name}_value"))
            for name in names
        ]

    return probe


def sums_of(edit: Editor, value: ir.Value, images: int | None = None) -> list[str]:
    """Add outputs for a value's ``Σ x·xᵀ`` ``[C, C]``, ``Σ x`` ``[C]`` and the number of elements.

    Args:
        edit: editor of the graph.
        value: ``[…, C]``, or ``[N, C, …]`` where ``images`` is given.
        images: the rank of the value, if its channels come second.
    """
    name = str(value.name)
    axis = -1
    if images is not None:
        front = edit.node("Transpose", [value], f"{name}_t", perm=[1, 0, *range(2, images)])
        edit.graph.append(front)
        value, axis = front.outputs[0], 1
    flat = edit.node("Flatten", [value], f"{name}_flat", axis=axis)
    edit.graph.append(flat)
    rows = flat.outputs[0]
    side: dict[str, Any] = {"transB": 1} if images else {"transA": 1}
    axes = edit.constant(f"{name}_axes", np.array([1 if images else 0]))
    size = edit.node("Size", [rows], f"{name}_count")
    return [
        show(edit, edit.node("Gemm", [rows, rows], f"{name}_second", **side)),
        show(edit, edit.node("ReduceSum", [rows, axes], f"{name}_sum", keepdims=0)),
        show(edit, size, ir.DataType.INT64),
    ]
