"""Quantizes the layers that gain from it: in time, in bytes, and within the bound of quality."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from app.domain.steps import Quantize
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.quantize import quality_bound
from workers.compression.methods.quantize.exclusions import (
    Write,
    costs_little,
    excluding,
    is_slower,
    is_trivial,
    names_of,
    unprofitable,
)
from workers.compression.methods.quantize.gains import TIME
from workers.compression.methods.quantize.judging import Judging
from workers.compression.methods.quantize.quality_bound import Hopeless, Reserve
from workers.compression.methods.quantize.rest import store_rest
from workers.compression.progress import Advance
from workers.compression.samples.context import Context

_AS_ASKED = (
    "The graph is too small for anything to pay: layers were quantized because it was asked for."
)


@dataclass(frozen=True)
class Prepared:
    """A graph that was made ready to compute in integers."""

    write: Write
    """Quantizes a copy of it."""
    layers: Sequence[ir.Node]
    """The nodes that can be quantized."""
    notes: Sequence[str] = ()
    """What was done to it to keep quality."""


def quantize_profitable(
    prepared: Prepared,
    original: ir.Model,
    parameters: Quantize,
    context: Context,
    advance: Advance,
    judging: Judging | None,
    hopeless: Hopeless = lambda _: False,
    reserve: Reserve = lambda: 0.0,
) -> Outcome:
    """Quantize the layers that gain from it, within the bound of the loss of quality.

    The weights of layers that are slower in integers are stored in few bits, which costs no time.
    Every layer is quantized that the bound allows if the step has ``force``, if the graph is too
    small to be timed, or if no layer gained and quantizing all costs hardly any time and bytes.

    Args:
        prepared: the graph to quantize.
        original: the graph that the step was given; not changed.
        parameters: the step's parameters.
        context: the data, and an example for timing.
        advance: called with the fraction done.
        judging: judges graphs by the bound; None sets no bound.
        hopeless: ends the search for a graph within the bound; see ``quantize_within_bound``.
        reserve: what the choice of layers leaves of the bound; see there.
    """
    write, layers_by_name = prepared.write, names_of(prepared.layers)

    def within_bound(excluded: Mapping[str, str]) -> Outcome:
        remaining = [name for name in layers_by_name if name not in excluded]
        return quality_bound.quantize_within_bound(
            excluding(write, excluded), original, remaining, context, advance, judging,
            parameters.layer_form, TIME, hopeless, reserve,
        )  # fmt: skip

    if parameters.force or is_trivial(original, context):
        return _noted(within_bound({}), prepared.notes, original)
    exclusions = unprofitable(write, original, layers_by_name, context)
    excluded = exclusions.excluded
    outcome = within_bound(excluded)
    if judging is not None and outcome.layers:
        outcome = _unless_slower(write, original, outcome, layers_by_name, context)
    outcome = _noted(outcome, prepared.notes, original)
    outcome = store_rest(outcome, parameters, excluded, context, judging)
    if not outcome.layers and costs_little(original, write({}).model, context):
        requested = within_bound({})
        if requested.layers:
            return replace(requested, notes=[*prepared.notes, *requested.notes, _AS_ASKED])
    notes = [*exclusions.notes, *_exclusion_notes(excluded), *outcome.notes]
    return replace(outcome, notes=notes, settled=not exclusions.notes)


def _noted(outcome: Outcome, notes: Sequence[str], original: ir.Model) -> Outcome:
    """Add notes to an outcome; one without quantized layers is the original graph."""
    if not outcome.layers:
        return replace(outcome, model=original)
    return replace(outcome, notes=[*outcome.notes, *notes])


def _unless_slower(
    write: Write,
    original: ir.Model,
    outcome: Outcome,
    layers_by_name: Mapping[str, ir.Node],
    context: Context,
) -> Outcome:
    """Return the outcome, or one without integers if the outcome is slower than the original."""
    slower = is_slower(original, outcome.model, context)
    if slower is None:
        return outcome
    reason = (
        "with as many layers in integers as the allowed loss permits, the model would be slower:"
        f" {slower.value:.2f} times as fast as in float"
    )
    floats = write(dict.fromkeys(layers_by_name, reason))
    return replace(floats, choices=outcome.choices, prices=outcome.prices)


def _exclusion_notes(excluded: Mapping[str, str]) -> list[str]:
    """Return a note for each reason, with the number of layers that stay in float."""
    counted = Counter(excluded.values())
    return [f"Layers that stay in float: {count}; {why}." for why, count in counted.items()]
