"""The default mode of quantization: each layer gets the best form within a bound of the quality.

The forms, from the fastest to the most accurate:

1. Integer arithmetic, with ranges from calibration data (``static``) or from the run (``dynamic``).
2. Products whose weights are blocks of four bits, unpacked as they multiply.
3. Float arithmetic, with weights stored in eight bits, or in four bits if size is preferred: on a
   grid, or as the values of a codebook.
4. Float arithmetic, with weights stored in float16.

Candidates are the graphs that have one form throughout, and those in which the layers that are
slower in integers, or lose too much quality, stay in float. Of those that keep the bound and are
not slower, the best by time and bytes is taken. So it is never worse than the plain modes that keep
the bound. Without data the quality cannot be measured, and no layer computes in integers.

A form that one of the wanted formats does not hold is no candidate. Weights that stay in float are
stored in few bits where any of the formats holds that: in the others they are floats as before.

The bound is that of the job, with a margin for samples that are not seen here, or one percentage
point. It is checked on training samples that are not used for calibration.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from itertools import chain

import onnx_ir as ir

from app.domain.layer_forms import IN_WORDS, LayerForm, held_by_all
from app.domain.problems import StepFailed
from app.domain.steps import Quantize
from workers.compression.graph.forms import has_four_bits
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.quantize import dynamic, static
from workers.compression.methods.quantize.block_products import BlockProducts
from workers.compression.methods.quantize.exclusions import file_bytes, is_not_slower, speed_ratio
from workers.compression.methods.quantize.judging import Judging
from workers.compression.methods.quantize.layers import select
from workers.compression.methods.quantize.quality_bound import choice_of
from workers.compression.methods.quantize.rest import store_rest, with_stored_weights
from workers.compression.methods.quantize.selection import Prepared, quantize_profitable
from workers.compression.methods.quantize.storing import writer
from workers.compression.methods.quantize.variants import Form, Variant, worth_of
from workers.compression.progress import Advance, span, turn
from workers.compression.samples.context import Context

_SMALLEST = {"balanced": 4.0, "size": 8.0, "speed": 4.0}
"""The greatest size ratio that weights stored in few bits can have."""
_SMALLEST_IN_BLOCKS = 8.0
"""That of products with weights in blocks of four bits."""

_RESERVED = 0.25
"""The greatest share of the bound that integers leave for weights that are stored in few bits."""

_PRODUCTS = 0.2
"""The least share of the weights in matrix products for which forms of products are tried."""

_UNJUDGED = (
    "Quality was not measured on real data: without a dataset no layer computes in integers, and"
    " weights are stored in eight bits."
)


_Candidate = tuple[LayerForm, str, Outcome]
"""A quantized graph, after the form of its layers and its title."""


def quantize_auto(
    model: ir.Model, parameters: Quantize, context: Context, advance: Advance
) -> Outcome:
    """Choose a form for each layer; the graph never gets slower or larger.

    Args:
        model: the graph; not changed unless it is returned.
        parameters: the preference for size or speed, and the ignored nodes.
        context: the bound, the data, an example for timing.
        advance: called with the fraction done.
    """
    samples = static.samples_to_judge(parameters, context)
    if not samples:
        outcome = Outcome(model, [], [], [_UNJUDGED])
        return with_stored_weights(outcome, parameters, context, None)
    limit = parameters.own_bound if context.max_quality_drop is None else None
    choosing = _Choosing(model, parameters, context, Judging(model, samples, context, limit))
    return choosing.run(advance)


class _Choosing:
    """The choice among the variants of a graph."""

    def __init__(
        self, model: ir.Model, parameters: Quantize, context: Context, judging: Judging
    ) -> None:
        self._model, self._parameters = model, parameters
        self._context, self._judging = context, judging
        self._bytes = file_bytes(model)
        self._held = held_by_all(context.deliver)
        self._measured = list[Variant]()

    def run(self, advance: Advance) -> Outcome:
        """Measure the variants, and return the best of those that are allowed."""
        for form, title, outcome in self._variants(advance):
            self._measured.append(self._measure(form, title, outcome))
        best = self._best()
        assert best is not None, "the graph as it is was measured"
        considered = [choice for variant in self._measured for choice in variant.outcome.choices]
        points = [v.point.model_copy(update={"chosen": v is best}) for v in self._measured]
        chosen = best.outcome
        others = [v.outcome for v in self._measured if v is not best]
        prices = [*chosen.other_prices, *chain(*([*o.prices, *o.other_prices] for o in others))]
        return replace(chosen, choices=[*considered, *points], other_prices=prices)

    def _best(self) -> Variant | None:
        """Return the best variant so far; None before the first one.

        Where none keeps the bound, the graph exceeded it before: then loss does not count.
        """
        allowed = [variant for variant in self._measured if variant.allowed]
        profitable = [variant for variant in self._measured if variant.profitable]
        prefer, candidates = self._parameters.prefer, allowed or profitable or self._measured
        return max(candidates, key=lambda variant: variant.worth(prefer), default=None)

    def _variants(self, advance: Advance) -> Iterator[_Candidate]:
        """Yield quantized graphs, as long as they can be the best.

        Forms with all layers come first: a choice of layers takes long, and ends where it cannot
        be better than these.
        """
        given = self._parameters
        fixed = given.model_copy(update={"mode": "static"})
        products = given.model_copy(update={"mode": "dynamic"})
        layers = [layer for layer in select(self._model, fixed)[0] if layer.integer]
        share = sum(layer.weights.size for layer in select(self._model, products)[0])
        hold_weights = share > _PRODUCTS * sum(layer.weights.size for layer in layers)
        forms = list[Form]()
        if layers and "static" in self._held:
            ready = static.prepare(self._model.clone(), fixed, self._context, span(advance, 0, 0.4))
            forms.append(Form("static", ready, fixed))
            yield from self._throughout(forms[-1])
        if self._is_whole():
            yield from self._where_it_pays(forms.pop(), span(advance, 0.4, 0.6))
        if hold_weights and self._has_time_for("dynamic") and not self._is_whole():
            with suppress(StepFailed):  # the opset is too old
                ready = dynamic.prepare(self._model.clone(), products, self._context)
                forms.append(Form("dynamic", ready, products))
                yield from self._throughout(forms[-1])
        for index, form in enumerate(forms):
            choosing = turn(span(advance, 0.6, 0.9), index, len(forms))
            yield from self._where_it_pays(form, choosing)
        if hold_weights and self._has_time_for("blocks") and has_four_bits(self._model):
            yield from self._in_blocks(span(advance, 0.9, 1))
        if not self._measured or ("stored" in self._held and not self._surpasses(1.0, "stored")):
            yield "stored", IN_WORDS["stored"], Outcome(self._model.clone())

    def _has_time_for(self, form: LayerForm) -> bool:
        """Return whether a form may be tried: the wanted formats hold it, and there is time."""
        return form in self._held and self._context.has_time()

    def _throughout(self, form: Form) -> Iterator[_Candidate]:
        """Yield a graph with all layers in one form."""
        throughout = form.throughout
        if throughout.layers:
            notes = [*form.prepared.notes]
            yield form.name, form.title, replace(throughout, notes=notes)

    def _where_it_pays(self, form: Form, advance: Advance) -> Iterator[_Candidate]:
        """Yield a graph with those layers in one form that gain from it, if it is another one."""
        if not form.throughout.layers or not self._context.has_time():
            return
        chosen = quantize_profitable(
            form.prepared, self._model, form.parameters, self._context, advance, self._judging,
            partial(self._surpasses, form=form.name), reserve=lambda: self._for_stored_weights,
        )  # fmt: skip
        if chosen.layers != form.throughout.layers:
            yield form.name, f"{IN_WORDS[form.name]}, where it pays", chosen
        else:
            self._add_prices(form.title, chosen)

    @cached_property
    def _for_stored_weights(self) -> float:
        """The loss of all weights in eight bits, within a share of the bound.

        Integers would use the bound up, and the weights of all other layers be twice as large.
        """
        rough = self._parameters.model_copy(update={"learn_rounding": False})
        stored = store_rest(Outcome(self._model), rough, None, self._context, None)
        lost = self._judging.drop(stored.model).value
        return lost if lost <= _RESERVED * self._judging.limit else 0.0

    def _add_prices(self, title: str, priced: Outcome) -> None:
        """Add the prices of layers to the variant of a title."""
        for index, variant in enumerate(self._measured):
            if variant.point.title == title and priced.prices:
                given = variant.outcome
                others = [*priced.other_prices, *given.prices, *given.other_prices]
                outcome = replace(given, prices=priced.prices, other_prices=others)
                self._measured[index] = replace(variant, outcome=outcome)

    def _in_blocks(self, advance: Advance) -> Iterator[_Candidate]:
        """Yield graphs whose products have weights in blocks, if their speed and size can be best.

        Neither depends on how weights are rounded, so that it is learned for those alone.
        """
        model, context = self._model, self._context
        few = {"mode": "weight_only", "weights": "int4", "unpack": "run"}
        parameters = self._parameters.model_copy(update=few)
        blocks = BlockProducts(parameters)
        rough = blocks.write(model, {})
        if not rough.layers or not context.example:
            return
        ratio = speed_ratio(model, rough.model, context)
        stored = with_stored_weights(rough, self._parameters, context, None)
        smaller = self._bytes / file_bytes(stored.model)
        if not is_not_slower(ratio) or not self._is_better(ratio.value, smaller):
            return
        uses = blocks.uses(model)
        write, notes = writer(model, blocks, uses, context)
        prepared = Prepared(write, [use.node for use in uses], notes)
        form = Form("blocks", prepared, parameters)
        yield from self._throughout(form)
        yield from self._where_it_pays(form, advance)

    def _is_better(self, faster: float, smaller: float) -> bool:
        """Return whether a graph would be the best so far, if it kept the bound."""
        best, prefer = self._best(), self._parameters.prefer
        if best is None or not best.allowed:
            return True
        return worth_of(faster, smaller, prefer) > best.worth(prefer)

    def _is_whole(self) -> bool:
        """Return whether the static graph throughout, the first variant, is the best so far.

        Finding ranges in each run takes time, so that it cannot be faster then.
        """
        best = self._best()
        return best is not None and best.allowed and best is self._measured[0]

    def _surpasses(self, faster: float, form: LayerForm) -> bool:
        """Return whether no graph of a form and speed-up, however small, is better than the best.

        What the form leaves in float is stored in few bits.
        """
        stored = _SMALLEST[self._parameters.prefer]
        return not self._is_better(faster, _SMALLEST_IN_BLOCKS if form == "blocks" else stored)

    def _measure(self, form: LayerForm, title: str, outcome: Outcome) -> Variant:
        """Store what remains in floats in few bits; measure speed-up, size ratio and loss.

        What cannot be the best, however few bits its weights are stored in, stays as it is.
        """
        context, judging = self._context, self._judging
        faster, profitable, timed = 1.0, True, bool(outcome.layers and context.example)
        if timed:
            ratio = speed_ratio(self._model, outcome.model, context, round_=1)
            faster, profitable = ratio.value, is_not_slower(ratio)
        if profitable and not self._surpasses(faster, form) and judging.fits(outcome.model):
            outcome = with_stored_weights(outcome, self._parameters, context, judging)
        size, drop = file_bytes(outcome.model), judging.drop(outcome.model)
        point = choice_of(title, size, faster if timed else None, drop)
        profitable = profitable and size <= self._bytes
        allowed = profitable and drop.expected <= judging.limit
        return Variant(outcome, faster, self._bytes / size, profitable, allowed, point)
