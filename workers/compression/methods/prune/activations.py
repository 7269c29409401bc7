"""The criterion APoZ: the average percentage of zeros in a unit's activations."""

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
"""The weight of the mean magnitude, which decides between units with equal shares of zeros."""


def apoz(
    model: ir.Model, analysis: Analysis, context: Context, advance: Callable[[float], None]
) -> Scores:
    """Score a unit by the share of its activations that are not zero (APoZ, Hu et al. 2016).

    After functions that never give zero (GELU, SiLU), the mean magnitude decides.

    Args:
        model: the graph; not changed.
        analysis: the coupled units of the graph.
        context: data, seed, threads.
        advance: called with the fraction done.

    Raises:
        StepFailed: there is no data.
    """
    places = _summed_places(model, analysis)
    nonzero_shares = [np.zeros(analysis.shapes[place.value][place.axis]) for place in places]
    magnitudes = [np.zeros_like(array) for array in nonzero_shares]

    def probe(edit: Editor) -> list[str]:
        values = ir.convenience.create_value_mapping(edit.graph)
        return [
            name
            for place in places
            for name in _add_statistics(edit, values[place.value], place, analysis)
        ]

    for batch in runs(model, probe, calibration(context), context.threads, advance):
        for index in range(len(places)):
            nonzero_shares[index] += batch[2 * index]
            magnitudes[index] += batch[2 * index + 1]
    scores = np.zeros(analysis.units, np.float64)
    for group in analysis.groups:
        parts = [
            per_unit(
                group,
                place,
                analysis,
                share + _TIE * magnitude / max(float(magnitude.mean()), 1e-12),
            )
            for place, share, magnitude in zip(places, nonzero_shares, magnitudes, strict=True)
        ]
        parts = [part / max(float(part.max()), 1e-12) for part in parts if part.any()]
        if parts:
            scores[group.units] = np.mean(parts, axis=0)
    return scores


def _summed_places(model: ir.Model, analysis: Analysis) -> list[Place]:
    """Return the values that nodes sum over, with the axis of each sum."""
    nodes = {node.name: node for node in model.graph}
    places: dict[Place, None] = {}
    for site in analysis.sums:
        value = nodes[site.node].inputs[site.slot]
        rows = analysis.rows.get(str(value.name)) if value is not None else None
        if value is not None and rows is not None and rows[site.axis] is not None:
            places[Place(str(value.name), site.axis)] = None
    return list(places)


def _add_statistics(edit: Editor, value: ir.Value, place: Place, analysis: Analysis) -> list[str]:
    """Add two outputs for each index: the share of nonzero elements, and the mean magnitude."""
    rank = len(analysis.shapes[place.value])
    axes = edit.constant(
        f"{place.value}_axes", np.array([a for a in range(rank) if a != place.axis], np.int64)
    )
    cast = edit.node("Cast", [value], f"{place.value}_single", to=ir.DataType.FLOAT.value)
    magnitude = edit.node("Abs", [cast.outputs[0]], f"{place.value}_size")
    nonzero = edit.node("Sign", [magnitude.outputs[0]], f"{place.value}_live")
    edit.graph.extend([cast, magnitude, nonzero])
    return [
        show(edit, edit.node("ReduceMean", [node.outputs[0], axes], f"{name}_mean", keepdims=0))
        for name, node in ((f"{place.value}_live", nonzero), (f"{place.value}_size", magnitude))
    ]
