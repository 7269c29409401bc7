"""Channel pruning: removes whole channels, neurons and heads, and adapts all shapes."""

from collections.abc import Callable

import onnx_ir as ir

from app.domain.reports import LayerChange
from app.domain.steps import Prune, Skipped
from app.domain.steps.base import matches
from workers.compression.graph.editor import constant
from workers.compression.graph.kept import Kept
from workers.compression.graph.narrow import bytes_in_file
from workers.compression.graph.operators import channel_axis, input_axis, is_layer
from workers.compression.methods.prune.costs import cost_of
from workers.compression.methods.prune.criteria import ChannelSources, score_channels
from workers.compression.methods.prune.cut import cut
from workers.compression.methods.prune.groups import Analysis, Group, Removed, analyse, kept_indices
from workers.compression.methods.prune.importance import Scores
from workers.compression.methods.prune.latency import allocate_time
from workers.compression.methods.prune.learned import allocate_as
from workers.compression.methods.prune.masks import difference
from workers.compression.methods.prune.reconstruct import reconstruct
from workers.compression.methods.prune.survey import Survey, survey_graph
from workers.compression.methods.saving import WHOLE, shortfall
from workers.compression.progress import span
from workers.compression.samples.context import Context

_SCORING = 0.5
"""The share of the progress that is scoring; the rest is reconstruction."""

_SCORED_FIRST = 0.2
"""The share of scoring before widths are learned, which takes longer."""


def prune_channels(
    model: ir.Model, parameters: Prune, context: Context, advance: Callable[[float], None]
) -> tuple[ir.Model, list[Skipped], Kept]:
    """Remove channels once, without training.

    Args:
        model: the graph; not changed.
        parameters: the criterion, and the share to remove.
        context: data, seed, threads.
        advance: called with the fraction done.

    Returns:
        The cut graph, the refusals, and which indices of the graph's constants are left.
    """
    scoring, fitting = span(advance, 0, _SCORING), span(advance, _SCORING, 1)
    survey = survey_graph(model, context)
    analysis = analyse(model, survey.shapes, lambda name: matches(name, parameters.ignore))
    removed, refused = choose(model, analysis, survey, parameters, context, scoring)
    smaller = cut(model.clone(), analysis, removed)
    if parameters.reconstruct and context.train:
        macs = cost_of("macs", model, analysis, survey.sample)(removed)
        reconstruct(model, smaller, analysis, removed, context, macs, fitting)
    return smaller, [*analysis.skipped, *refused], kept_indices(model, analysis, removed)


def choose(
    model: ir.Model,
    analysis: Analysis,
    survey: Survey,
    parameters: Prune,
    context: Context,
    advance: Callable[[float], None],
) -> tuple[Removed, list[Skipped]]:
    """Choose the units to remove, and verify the cut.

    A group is left alone if the cut graph's outputs differ from those of the masked graph.
    """
    refused: list[Skipped] = []
    if not analysis.groups:
        refusal = Skipped(node=WHOLE, reason="no channel of it can be removed: see its layers")
        return analysis.none_removed(), [refusal]
    scored = _SCORED_FIRST if parameters.scope == "learned" else 1.0
    scoring, choosing = span(advance, 0, scored), span(advance, scored, 1)
    scores = score_channels(ChannelSources(model, analysis, parameters, context, scoring))
    while True:
        removed, shortfalls = _allocate(
            model, analysis, survey, parameters, scores, context, choosing
        )
        unproved = unsound_groups(model, analysis, removed, survey)
        if not unproved:
            return removed, refused + shortfalls
        refused += [
            Skipped(node=group.places[0].value, reason=reason) for group, reason in unproved
        ]
        analysis = analysis.without([group for group, _ in unproved])


def _allocate(
    model: ir.Model,
    analysis: Analysis,
    survey: Survey,
    parameters: Prune,
    scores: Scores,
    context: Context,
    advance: Callable[[float], None],
) -> tuple[Removed, list[Skipped]]:
    """Choose units; return a refusal where fewer can be removed than was asked for."""
    ratio, measure = parameters.ratio, parameters.of
    if measure == "latency":
        removed, saved = allocate_time(
            model, analysis, scores, survey, parameters, context, advance
        )
    else:
        cost = cost_of(measure, model, analysis, survey.sample)
        choose_units = allocate_as(parameters, model, analysis, scores, context, advance)
        removed = choose_units(cost, ratio)
        saved = 1 - cost(removed) / max(cost(analysis.none_removed()), 1)
    return removed, shortfall(ratio, measure, saved)


def unsound_groups(
    model: ir.Model, analysis: Analysis, removed: Removed, survey: Survey
) -> list[tuple[Group, str]]:
    """Return the groups whose cut changes the graph's outputs, each with the difference."""

    def differs(chosen: Removed) -> str | None:
        differences = (difference(model, analysis, chosen, feeds) for feeds in survey.trials)
        return next(filter(None, differences), None)

    difference_of_all = differs(removed)
    if difference_of_all is None:
        return []
    unproved = []
    for group in analysis.groups:
        alone = analysis.none_removed()
        alone[group.units] = removed[group.units]
        if alone.any() and (reason := differs(alone)) is not None:
            unproved.append((group, f"a cut here could not be proved: {reason}"))
    reason = f"a cut could not be proved: {difference_of_all}"
    return unproved or [(group, reason) for group in analysis.groups]


def changes(original: ir.Model, smaller: ir.Model) -> list[LayerChange]:
    """Report the layers that became narrower, or were dropped."""
    nodes = {node.name: node for node in smaller.graph}
    changes_found = []
    for node in original.graph:
        slot = _weight_slot(node) if is_layer(node) else None
        if slot is None:
            continue
        new = nodes.get(node.name)
        change = "dropped" if new is None else _narrowed(node, new, slot)
        if change:
            changes_found.append(
                LayerChange(
                    node=str(node.name),
                    operator=node.op_type,
                    change=change,
                    bytes_before=_bytes(original, node),
                    bytes_after=0 if new is None else _bytes(smaller, new),
                )
            )
    return changes_found


def _weight_slot(node: ir.Node) -> int | None:
    """Return the slot of a layer's stored weight, which few products have on their left."""
    return next((slot for slot in (1, 0) if _shape(node.inputs[slot])), None)


def _narrowed(node: ir.Node, new: ir.Node, slot: int) -> str:
    """Describe the change of a weight's shape; empty where there is none."""
    shapes = _shape(node.inputs[slot]), _shape(new.inputs[slot])
    if slot == 1:
        return _words(node, *shapes)
    old_size, new_size = ("×".join(map(str, shape)) for shape in shapes)
    return "" if old_size == new_size else f"weight on the left {old_size} → {new_size}"


def _words(node: ir.Node, old_shape: tuple[int, ...], new_shape: tuple[int, ...]) -> str:
    """Describe the change of a shape, such as ``64 → 40 channels, reads 32 → 24``."""
    output_axis = (channel_axis(node) or 0) % len(old_shape)
    input_axis_ = (input_axis(node) or 0) % len(old_shape)
    parts = []
    if old_shape[output_axis] != new_shape[output_axis]:
        parts.append(f"{old_shape[output_axis]} → {new_shape[output_axis]} channels")
    if old_shape[input_axis_] != new_shape[input_axis_]:
        parts.append(f"reads {old_shape[input_axis_]} → {new_shape[input_axis_]}")
    stacked = [axis for axis in range(len(old_shape)) if axis not in (output_axis, input_axis_)]
    parts += [
        f"{old_shape[axis]} → {new_shape[axis]} matrices in a stack"
        for axis in stacked
        if node.op_type == "MatMul" and old_shape[axis] != new_shape[axis]
    ]
    return ", ".join(parts)


def _shape(value: ir.Value | None) -> tuple[int, ...]:
    """Return the shape of a stored value; empty where it is computed, or missing."""
    if value is None or value.const_value is None:
        return ()
    return tuple(value.const_value.shape.numpy())


def _bytes(model: ir.Model, node: ir.Node) -> int:
    values = [v for v in node.inputs if v is not None and v.const_value is not None]
    return bytes_in_file(model, *map(constant, values))
