"""From a way to write a graph in integers to the graph that pays: in time, bytes and quality."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial

import onnx_ir as ir

from app.domain.steps import Quantize
from app.domain.steps.quantize import PACKED
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.quantize import retreat
from workers.compression.methods.quantize.paying import (
    Write,
    costs_little,
    file_bytes,
    is_slower,
    is_trivial,
    names_of,
    paying,
)
from workers.compression.methods.quantize.stored import weights_in, write_stored
from workers.compression.samples.context import Context, Samples

_AS_ASKED = (
    "The graph is too small for anything to pay: layers were quantized because it was asked for."
)

Advance = Callable[[float], None]


def settled(
    write: Write,
    before: ir.Model,
    layers: Sequence[ir.Node],
    parameters: Quantize,
    context: Context,
    advance: Advance,
    judged: Samples | None = None,
) -> Outcome:
    """Quantize the layers that gain by it within the job's bound of the loss of quality.

    The weights of layers in which integers are slower are stored in few bits all the same, which
    costs no time. With ``force`` every layer is quantized that the bound allows; so it is in graphs
    whose time is hardly worth measuring, and where nothing else would be done and it costs as good
    as nothing: it was asked for.

    Args:
        write: quantizes a copy of a graph in float.
        before: the graph that the step was given; not changed.
        layers: what can be quantized.
        parameters: what to do.
        context: the bound, the data, an example to run.
        advance: called with the fraction done.
        judged: samples to judge on; None takes all that may be looked at.
    """
    named = names_of(layers)
    if parameters.force or is_trivial(before, context):
        outcome = retreat.within(write, before, list(named), context, advance, judged)
        return outcome if outcome.layers else Outcome(before, [], outcome.skipped, outcome.notes)
    found = paying(write, before, named, context)
    left = found.left
    rest = [name for name in named if name not in left]
    outcome = retreat.within(_without(write, left), before, rest, context, advance, judged)
    if context.max_quality_drop is not None and outcome.layers:
        outcome = _still_paying(write, before, outcome, named, context)
    if not outcome.layers:
        outcome = Outcome(before, [], outcome.skipped)
    outcome = store_rest(outcome, parameters, left, context, judged)
    if not outcome.layers:
        asked = retreat.within(write, before, list(named), context, advance, judged)
        if asked.layers and costs_little(before, asked.model, context):
            return replace(asked, notes=[*asked.notes, _AS_ASKED])
    return replace(outcome, notes=[*found.notes, *_why(left), *outcome.notes])


def store_rest(
    outcome: Outcome,
    parameters: Quantize,
    names: Collection[str] | None,
    context: Context,
    judged: Samples | None,
) -> Outcome:
    """Store weights that a graph still has in float in few bits, where the bound allows it.

    Args:
        outcome: the graph.
        parameters: the bits; what it ignores is ignored here.
        names: nodes to look at; None for all.
        context: the bound and the data.
        judged: samples to judge on; None takes all that may be looked at.
    """
    how = storing(parameters)
    held, refused = weights_in(outcome.model, how)
    before = {each.node for each in outcome.layers}
    chosen = {each.name for each in held} if names is None else set(names)
    wanted = [each.name for each in held if each.name in chosen - before]
    if not wanted:
        return outcome
    kept = {each.name: "" for each in held if each.name not in wanted}
    write = _without(partial(write_stored, outcome.model, how), kept)
    layers = list(dict.fromkeys(wanted))
    found = retreat.within(write, outcome.model, layers, context, _nobody, judged)
    if not found.layers or file_bytes(found.model) >= file_bytes(outcome.model):
        return outcome
    stored = {each.node for each in found.layers}
    skipped = {each.node: each for each in (*refused, *found.skipped) if each.reason}
    skipped |= {each.node: each for each in outcome.skipped}
    done = stored | before
    return Outcome(
        found.model,
        [*outcome.layers, *found.layers],
        [each for node, each in skipped.items() if node not in done],
        outcome.notes,
    )


def storing(parameters: Quantize) -> Quantize:
    """Return parameters that store weights as these do, for whatever is not in integers."""
    return Quantize(
        mode="weight_only",
        unpack="load",
        weights="int4" if parameters.weights in PACKED else "int8",
        ignore=parameters.ignore,
        operators=parameters.operators,
    )


def _still_paying(
    write: Write,
    before: ir.Model,
    outcome: Outcome,
    named: Mapping[str, ir.Node],
    context: Context,
) -> Outcome:
    """Return an outcome if it is not slower than the graph before, one without integers else."""
    slower = is_slower(before, outcome.model, context)
    if slower is None:
        return outcome
    reason = (
        f"with the layers in integers that the bound allows the graph was measured at"
        f" {slower.value:.2f} times the speed of floats"
    )
    return write(dict.fromkeys(named, reason))


def _why(left: Mapping[str, str]) -> list[str]:
    """Say how many layers compute in float for which reason."""
    counted = Counter(left.values())
    return [f"Layers that stay in float: {count}; {why}." for why, count in counted.items()]


def _without(write: Write, left: Mapping[str, str]) -> Write:
    return lambda besides: write({**left, **besides})


def _nobody(_fraction: float) -> None:
    """Tell nobody."""
