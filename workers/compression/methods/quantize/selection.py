"""Quantizes the layers that gain from it: in time, in bytes, and within the bound of quality."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from app.domain.layer_forms import held_by_any
from app.domain.steps import Quantize
from app.domain.steps.quantize import PACKED
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.quantize import quality_bound
from workers.compression.methods.quantize.exclusions import (
    Write,
    costs_little,
    file_bytes,
    is_slower,
    is_trivial,
    names_of,
    unprofitable,
)
from workers.compression.methods.quantize.gains import TIME
from workers.compression.methods.quantize.judging import Judging
from workers.compression.methods.quantize.stored import Storing, weights_in
from workers.compression.methods.quantize.storing import writer
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
    """
    write, layers_by_name = prepared.write, names_of(prepared.layers)

    def within_bound(excluded: Mapping[str, str]) -> Outcome:
        remaining = [name for name in layers_by_name if name not in excluded]
        return quality_bound.quantize_within_bound(
            _excluding(write, excluded), original, remaining, context, advance, judging,
            parameters.layer_form, TIME,
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
    if not outcome.layers:
        requested = within_bound({})
        if requested.layers and costs_little(original, requested.model, context):
            return replace(requested, notes=[*prepared.notes, *requested.notes, _AS_ASKED])
    notes = [*exclusions.notes, *_exclusion_notes(excluded), *outcome.notes]
    return replace(outcome, notes=notes, settled=not exclusions.notes)


def _noted(outcome: Outcome, notes: Sequence[str], original: ir.Model) -> Outcome:
    """Add notes to an outcome; one without quantized layers is the original graph."""
    if not outcome.layers:
        return replace(outcome, model=original)
    return replace(outcome, notes=[*outcome.notes, *notes])


def store_rest(
    outcome: Outcome,
    parameters: Quantize,
    names: Collection[str] | None,
    context: Context,
    judging: Judging | None,
    given: ir.Model | None = None,
) -> Outcome:
    """Store the remaining float weights of a graph in few bits, where the bound allows it.

    They stay as they are if all wanted formats have floats for such weights.

    Args:
        outcome: the graph.
        parameters: the number of bits, and the ignored nodes.
        names: the nodes to consider; None for all nodes.
        context: the data.
        judging: judges graphs by the bound; None sets no bound.
        given: the graph whose weights are told as those before; None for the outcome's.
    """
    if "stored" not in held_by_any(context.deliver):
        return outcome
    storage = storing(parameters)
    stored_weights, refused = weights_in(outcome.model, storage)
    done_before = {item.node for item in outcome.layers}
    chosen = {item.name for item in stored_weights} if names is None else set(names)
    names_to_store = [item.name for item in stored_weights if item.name in chosen - done_before]
    if not names_to_store:
        return outcome
    names_kept = {item.name: "" for item in stored_weights if item.name not in names_to_store}
    uses_to_store = [item for item in stored_weights if item.name in names_to_store]
    stores, notes = writer(outcome.model, Storing(storage, given=given), uses_to_store, context)
    write = _excluding(stores, names_kept)
    layers = list(dict.fromkeys(names_to_store))
    result = quality_bound.quantize_within_bound(
        write, outcome.model, layers, context, _no_progress, judging, storage.layer_form
    )
    if not result.layers or file_bytes(result.model) >= file_bytes(outcome.model):
        return outcome
    stored = {item.node for item in result.layers}
    skipped = {item.node: item for item in (*refused, *result.skipped) if item.reason}
    skipped |= {item.node: item for item in outcome.skipped}
    done = stored | done_before
    return replace(
        outcome,
        model=result.model,
        layers=[*outcome.layers, *result.layers],
        skipped=[item for node, item in skipped.items() if node not in done],
        notes=[*outcome.notes, *notes],
        choices=[*outcome.choices, *result.choices],
        prices=outcome.prices or result.prices,
        other_prices=[*outcome.other_prices, *(result.prices if outcome.prices else [])],
    )


def storing(parameters: Quantize) -> Quantize:
    """Return the parameters that store float weights in as many bits as the given parameters."""
    return Quantize(
        mode="weight_only",
        unpack="load",
        weights="int4" if parameters.weights in PACKED else "int8",
        ignore=parameters.ignore,
        operators=parameters.operators,
        calibration_samples=parameters.calibration_samples,
        learn_rounding=parameters.learn_rounding,
    )


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


def _excluding(write: Write, excluded: Mapping[str, str]) -> Write:
    return lambda more_excluded: write({**excluded, **more_excluded})


def _no_progress(_fraction: float) -> None:
    """Ignore the progress."""
