"""The criterion that asks how often a unit is silent."""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from workers.compression.graph.editor import Editor
from workers.compression.looking.probe import runs, show
from workers.compression.methods.prune.gradients import calibration
from workers.compression.methods.prune.groups import Analysis, Place
from workers.compression.methods.prune.importance import Scores, per_unit
from workers.compression.samples.context import Context

_TIE = 1e-3
"""Weight of the mean magnitude, which decides between units that are silent alike."""


def apoz(
    model: ir.Model, analysis: Analysis, context: Context, advance: Callable[[float], None]
) -> Scores:
    """Score by how seldom a unit is zero where it is read (APoZ, Hu et al. 2016).

    Behind functions that never give zero (GELU, SiLU), the mean magnitude decides.

    Args:
        model: the graph; not changed.
        analysis: what hangs together.
        context: data, seed, threads.
        advance: told the fraction done.

    Raises:
        StepFailed: there is no data.
    """
    places = _read(model, analysis)
    live = [np.zeros(analysis.shapes[place.value][place.axis]) for place in places]
    sizes = [np.zeros_like(each) for each in live]

    def probe(edit: Editor) -> list[str]:
        values = ir.convenience.create_value_mapping(edit.graph)
        return [
            name for place in places for name in _look(edit, values[place.value], place, analysis)
        ]

    for batch in runs(model, probe, calibration(context), context.threads, advance):
        for index in range(len(places)):
            live[index] += batch[2 * index]
            sizes[index] += batch[2 * index + 1]
    scores = np.zeros(analysis.units, np.float64)
    for group in analysis.groups:
        parts = [
            per_unit(group, place, analysis, often + _TIE * size / max(float(size.mean()), 1e-12))
            for place, often, size in zip(places, live, sizes, strict=True)
        ]
        parts = [part / max(float(part.max()), 1e-12) for part in parts if part.any()]
        if parts:
            scores[group.units] = np.mean(parts, axis=0)
    return scores


def _read(model: ir.Model, analysis: Analysis) -> list[Place]:
    """Return the values, and their axes, that nodes sum over."""
    nodes = {node.name: node for node in model.graph}
    found: dict[Place, None] = {}
    for site in analysis.sums:
        value = nodes[site.node].inputs[site.slot]
        rows = analysis.rows.get(str(value.name)) if value is not None else None
        if value is not None and rows is not None and rows[site.axis] is not None:
            found[Place(str(value.name), site.axis)] = None
    return list(found)


def _look(edit: Editor, value: ir.Value, place: Place, analysis: Analysis) -> list[str]:
    """Show the share of elements that are not zero, and the mean magnitude, for each index."""
    rank = len(analysis.shapes[place.value])
    axes = edit.constant(
        f"{place.value}_axes", np.array([a for a in range(rank) if a != place.axis], np.int64)
    )
    single = edit.node("Cast", [value], f"{place.value}_single", to=ir.DataType.FLOAT.value)
    size = edit.node("Abs", [single.outputs[0]], f"{place.value}_size")
    live = edit.node("Sign", [size.outputs[0]], f"{place.value}_live")
    edit.graph.extend([single, size, live])
    return [
        show(edit, edit.node("ReduceMean", [each.outputs[0], axes], f"{n}_mean", keepdims=0))
        for n, each in ((f"{place.value}_live", live), (f"{place.value}_size", size))
    ]
