"""Stores the weights of layers that compute in float in few bits, where the bound allows it."""

from collections.abc import Collection
from dataclasses import replace

import onnx_ir as ir

from app.domain.layer_forms import held_by_any
from app.domain.steps import Quantize
from app.domain.steps.quantize import PACKED
from workers.compression.graph.narrow import mark_stored, stored_type
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.quantize import quality_bound
from workers.compression.methods.quantize.exclusions import excluding, file_bytes
from workers.compression.methods.quantize.judging import Judging
from workers.compression.methods.quantize.stored import Storing, weights_in
from workers.compression.methods.quantize.storing import writer
from workers.compression.samples.context import Context

_HALF = "Weights that stay in float are stored in half, and are float32 once a session is open."


def with_stored_weights(
    outcome: Outcome, parameters: Quantize, context: Context, judging: Judging | None
) -> Outcome:
    """Store the weights of layers that compute in float in as few bits as the bound allows.

    First all of them in half, which loses least: few bits would use up what is left of the bound.
    """
    given = outcome.model
    if not parameters.ignore and "stored" in held_by_any(context.deliver):
        outcome = _in_half(outcome, judging)
    if parameters.prefer == "size" and judging is not None:
        four_bits = parameters.model_copy(update={"weights": "int4"})
        outcome = store_rest(outcome, four_bits, None, context, judging, given)
    return store_rest(outcome, parameters, None, context, judging, given)


def _in_half(outcome: Outcome, judging: Judging | None) -> Outcome:
    """Store the remaining float weights in float16, if that makes the file smaller.

    A graph that is within the bound stays within it.
    """
    bytes_before = file_bytes(outcome.model)
    halved = outcome.model.clone()
    mark_stored(halved, ir.DataType.FLOAT16)
    if stored_type(outcome.model) is not None or file_bytes(halved) >= bytes_before:
        return outcome
    if judging is not None and not judging.fits(halved) and judging.fits(outcome.model):
        return outcome
    return replace(outcome, model=halved, notes=[*outcome.notes, _HALF])


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
    write = excluding(stores, names_kept)
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


def _no_progress(_fraction: float) -> None:
    """Ignore the progress."""
