"""Channel pruning: whole channels, neurons and heads go, and every shape with them."""

from collections.abc import Callable

import onnx_ir as ir

from app.domain.reports import LayerChange
from app.domain.steps import Prune, Skipped
from app.domain.steps.base import matches
from workers.compression.graph.editor import constant
from workers.compression.graph.narrow import bytes_in_file
from workers.compression.graph.operators import channel_axis, input_axis, is_layer
from workers.compression.methods.prune.allocate import allocate
from workers.compression.methods.prune.costs import cost_of
from workers.compression.methods.prune.criteria import ChannelSources, score_channels
from workers.compression.methods.prune.cut import cut
from workers.compression.methods.prune.ground import Survey, survey
from workers.compression.methods.prune.groups import Analysis, Group, Removed, analyse
from workers.compression.methods.prune.importance import Scores
from workers.compression.methods.prune.latency import allocate_time
from workers.compression.methods.prune.masks import difference
from workers.compression.methods.prune.reconstruct import reconstruct
from workers.compression.methods.saving import WHOLE, shortfall
from workers.compression.samples.context import Context

_SCORING = 0.5
"""Of the progress; the rest is fitting."""


def prune_channels(
    model: ir.Model, parameters: Prune, context: Context, advance: Callable[[float], None]
) -> tuple[ir.Model, list[Skipped]]:
    """Remove channels once, without training.

    Args:
        model: the graph; not changed.
        parameters: what to remove, and how much.
        context: data, seed, threads.
        advance: told the fraction done.

    Returns:
        The cut graph, and what was left alone.
    """

    def scoring(done: float) -> None:
        advance(_SCORING * done)

    def fitting(done: float) -> None:
        advance(_SCORING + (1 - _SCORING) * done)

    ground = survey(model, context)
    analysis = analyse(model, ground.shapes, lambda name: matches(name, parameters.ignore))
    removed, refused = choose(model, analysis, ground, parameters, context, scoring)
    smaller = cut(model.clone(), analysis, removed)
    if parameters.reconstruct and context.train is not None and len(context.train):
        macs = cost_of("macs", model, analysis, ground.sample)(removed)
        reconstruct(model, smaller, analysis, removed, context, macs, fitting)
    return smaller, [*analysis.skipped, *refused]


def choose(
    model: ir.Model,
    analysis: Analysis,
    ground: Survey,
    parameters: Prune,
    context: Context,
    advance: Callable[[float], None],
) -> tuple[Removed, list[Skipped]]:
    """Choose the units to remove, and prove that they can be.

    A group whose cut graph does not compute what the masked graph computes is left alone.
    """
    refused: list[Skipped] = []
    if not analysis.groups:
        nothing = Skipped(node=WHOLE, reason="no channel of it can be removed: see its layers")
        return analysis.none_removed(), [nothing]
    scores = score_channels(ChannelSources(model, analysis, parameters, context, advance))
    while True:
        removed, short = _allocate(model, analysis, ground, parameters, scores, context)
        bad = _unsound(model, analysis, removed, ground)
        if not bad:
            return removed, refused + short
        refused += [Skipped(node=group.places[0].value, reason=reason) for group, reason in bad]
        analysis = analysis.without([group for group, _ in bad])


def _allocate(
    model: ir.Model,
    analysis: Analysis,
    ground: Survey,
    parameters: Prune,
    scores: Scores,
    context: Context,
) -> tuple[Removed, list[Skipped]]:
    """Choose units, and say so where fewer can go than was asked for."""
    ratio, what = parameters.ratio, parameters.of
    if what == "latency":
        removed, gone = allocate_time(model, analysis, scores, ground, parameters, context)
    else:
        cost = cost_of(what, model, analysis, ground.sample)
        removed = allocate(analysis, scores, cost, ratio, parameters.scope)
        gone = 1 - cost(removed) / max(cost(analysis.none_removed()), 1)
    return removed, shortfall(ratio, what, gone)


def _unsound(
    model: ir.Model, analysis: Analysis, removed: Removed, ground: Survey
) -> list[tuple[Group, str]]:
    """Return the groups whose cut changes what the graph computes, each with how."""

    def wrong(chosen: Removed) -> str | None:
        differences = (difference(model, analysis, chosen, feeds) for feeds in ground.trials)
        return next((each for each in differences if each), None)

    whole = wrong(removed)
    if whole is None:
        return []
    found = []
    for group in analysis.groups:
        alone = analysis.none_removed()
        alone[group.units] = removed[group.units]
        if alone.any() and (reason := wrong(alone)) is not None:
            found.append((group, f"a cut here could not be proved: {reason}"))
    reason = f"a cut could not be proved: {whole}"
    return found or [(group, reason) for group in analysis.groups]


def changes(before: ir.Model, after: ir.Model) -> list[LayerChange]:
    """Say in words which layers became narrower, or were dropped."""
    nodes = {node.name: node for node in after.graph}
    found = []
    for node in before.graph:
        if not is_layer(node) or (weight := node.inputs[1]) is None:
            continue
        if weight.const_value is None:
            continue
        new = nodes.get(node.name)
        words = "dropped" if new is None else _narrowed(node, weight, new.inputs[1])
        if words:
            found.append(
                LayerChange(
                    node=str(node.name),
                    operator=node.op_type,
                    change=words,
                    bytes_before=_bytes(before, node),
                    bytes_after=0 if new is None else _bytes(after, new),
                )
            )
    return found


def _narrowed(node: ir.Node, old: ir.Value, new: ir.Value | None) -> str:
    return "" if new is None else _words(node, _shape(old), _shape(new))


def _words(node: ir.Node, before: tuple[int, ...], after: tuple[int, ...]) -> str:
    """Return such as ``64 → 40 channels, reads 32 → 24``."""
    written = (channel_axis(node) or 0) % len(before)
    read = (input_axis(node) or 0) % len(before)
    words = []
    if before[written] != after[written]:
        words.append(f"{before[written]} → {after[written]} channels")
    if before[read] != after[read]:
        words.append(f"reads {before[read]} → {after[read]}")
    return ", ".join(words)


def _shape(value: ir.Value) -> tuple[int, ...]:
    return () if value.const_value is None else tuple(value.const_value.shape.numpy())


def _bytes(model: ir.Model, node: ir.Node) -> int:
    values = [v for v in node.inputs if v is not None and v.const_value is not None]
    return bytes_in_file(model, *map(constant, values))
