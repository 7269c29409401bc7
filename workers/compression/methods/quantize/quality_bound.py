"""Excludes layers from quantization until the graph meets the job's bound of the loss of quality.

What stays in float costs time or bytes, and what is quantized costs quality. So the layers that
lose the most quality for what they gain are excluded first; see ``prices``.

Quality is measured on training samples: the held-out samples are for the verdict only.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import onnx_ir as ir

from app.domain.layer_forms import LayerForm
from app.domain.reports import Choice
from workers.compression.graph.narrow import stored_type
from workers.compression.measure.reference import Drop
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.quantize.exclusions import Write, file_bytes, speed_ratio
from workers.compression.methods.quantize.gains import BYTES, Gains, shares_of_work
from workers.compression.methods.quantize.judging import Judging
from workers.compression.methods.quantize.prices import Portion, Pricing
from workers.compression.progress import Advance, span
from workers.compression.samples.context import Context

_PORTIONS = 32
"""The greatest number of portions of neighbouring layers that are priced."""

_PORTIONS_REPORTED = 12
"""That number where the prices choose nothing, and are for the report alone."""

_PRICING_SECONDS, _REPORTING_SECONDS = 40.0, 4.0
"""The seconds of computing after which the loss of no further portion is measured: where prices
choose, and where they are for the report alone."""

_CHARTED = "What layers lose in integers was taken from the model's chart of sensitivity."

Hopeless = Callable[[float], bool]
"""Whether a graph of this speed-up, however small, is not wanted."""
Reserve = Callable[[], float]
"""The loss that a choice of layers leaves unused."""


def quantize_within_bound(
    write: Write,
    model: ir.Model,
    layers: Sequence[str],
    context: Context,
    advance: Advance,
    judging: Judging | None,
    form: LayerForm | None,
    gains: Gains = BYTES,
    hopeless: Hopeless = lambda _: False,
    reserve: Reserve = lambda: 0.0,
) -> Outcome:
    """Quantize as many layers as the bound of the loss of quality allows.

    All layers are quantized if there is no bound, or if the graph exceeded the bound before.

    Args:
        write: quantizes a copy of ``model``.
        model: the graph in float; not changed.
        layers: names of the nodes that can be quantized, in the graph's order.
        context: the data and an example for timing.
        advance: called with the fraction done.
        judging: judges graphs; None quantizes all layers.
        form: what layers become, for the report.
        gains: returns what portions of layers gain.
        hopeless: ends the search where layers in float cost so much time that the result would not
            be wanted.
        reserve: returns the loss that is left for what comes after, where layers are chosen.
    """
    quantized = write({})
    if judging is None or not quantized.layers:
        return quantized
    written = f"{context.name_of(quantized.model)} {stored_type(quantized.model)}"
    pricing = Pricing(write, written, model, layers, judging, context, gains)
    search = _Search(pricing, form, hopeless)
    if search.fits(quantized, 0):
        return search.with_prices(quantized)
    if not judging.fits(model):
        return replace(quantized, choices=search.choices)
    stricter = replace(pricing, judging=judging.leaving(reserve()))
    return replace(search, pricing=stricter).run(advance)


@dataclass(frozen=True)
class _Search:
    """The search for the layers to exclude."""

    pricing: Pricing
    form: LayerForm | None
    hopeless: Hopeless
    choices: list[Choice] = field(default_factory=list)
    """The graphs that were judged."""

    @property
    def _by_time(self) -> bool:
        return self.pricing.gains.unit == "time"

    def fits(self, outcome: Outcome, in_float: int) -> bool:
        """Judge a graph that leaves some layers in float; return whether it is within the bound."""
        judging, context = self.pricing.judging, self.pricing.context
        drop = judging.drop(outcome.model)
        fits, speedup = drop.expected <= judging.limit, None
        if fits and self._by_time and context.example and context.has_time():
            speedup = speed_ratio(self.pricing.model, outcome.model, context).value
        self.choices.append(
            choice_of(self._title(in_float), file_bytes(outcome.model), speedup, drop)
        )
        return fits

    def _title(self, in_float: int) -> str:
        """Return what a graph that leaves some layers in float is called in the report."""
        total = len(self.pricing.layers)
        if not self._by_time:
            return f"weights of {total - in_float} of {total} layers in few bits"
        return f"{in_float} of {total} layers in float" if in_float else f"all {total} in integers"

    def with_prices(self, quantized: Outcome) -> Outcome:
        """Return a graph that is within the bound, with the prices that there is time to measure.

        They choose nothing: time is that of the whole graph, by the layers' work.
        """
        pricing, context = self.pricing, self.pricing.context
        portions = pricing.portions(_PORTIONS_REPORTED)
        if self._by_time:
            whole = max((self.choices[-1].speedup or 1.0) - 1, 0.0)
            shares = shares_of_work((pricing.model, quantized.model), portions, context)
            gained = [whole * share for share in shares]
        else:
            gained = pricing.gained(portions)
        has_time = context.time_for(_REPORTING_SECONDS)
        priced = pricing.with_losses(portions, gained, has_time, lambda _: None)
        prices = pricing.reported(priced, quantized, self.form)
        return replace(quantized, choices=self.choices, prices=prices)

    def run(self, advance: Advance) -> Outcome:
        """Exclude the portions of the highest prices, then put layers of them back that fit.

        Where weights are only stored, portions are enough: a layer more or less gains few bytes.
        The last layers to be put back are those that lose the least, whatever they gain: the
        layer of the lowest price may lose too much where others would fit.
        """
        pricing = self.pricing
        has_time = pricing.context.time_for(_PRICING_SECONDS)
        parts = pricing.portions(_PORTIONS)
        gained = pricing.gained(parts)
        portions = pricing.with_losses(parts, gained, has_time, span(advance, 0, 0.6))
        excluded, best = self._fewest(portions)
        priced: Sequence[Portion] = portions
        if self._by_time and not self._is_hopeless(excluded):
            priced, best = self._refined(portions, excluded, has_time, span(advance, 0.7, 1))
        advance(1.0)
        charted = any(name in pricing.losses for name in pricing.layers)
        notes = [*best.notes, *([_CHARTED] if charted else [])]
        prices = pricing.reported(priced, best, self.form)
        return replace(best, notes=notes, choices=self.choices, prices=prices)

    def _refined(
        self,
        portions: Sequence[Portion],
        excluded: Sequence[Portion],
        has_time: Callable[[], bool],
        advance: Advance,
    ) -> tuple[Sequence[Portion], Outcome]:
        """Put single layers of the excluded portions back; return what is priced, and the best."""
        layers, priced = sum(len(portion.names) for portion in excluded), portions
        if layers > len(excluded) and self.pricing.context.has_time():
            singles = self.pricing.single(excluded, has_time, advance)
            priced = [*[each for each in portions if each not in excluded], *singles]
            excluded, _ = self._fewest(singles)
        _, best = self._fewest(sorted(excluded, key=_kept))
        return priced, best

    def _fewest(self, priced: Sequence[Portion]) -> tuple[Sequence[Portion], Outcome]:
        """Find, by bisection, the fewest of the first portions to exclude so that it fits.

        It ends early where so many have to be excluded that the graph would not be wanted.
        """
        low, high = 0, len(priced)  # with all of them in float, nothing is lost
        best, step = self._without(priced), 1
        while high - low > 1 and self.pricing.context.has_time():
            if self._is_hopeless(priced[:low]):
                break
            halfway = (low + high) // 2
            middle = min(low + step, halfway) if high == len(priced) else halfway
            outcome = self._without(priced[:middle])
            if self.fits(outcome, sum(len(portion.names) for portion in priced[:middle])):
                best, high = outcome, middle
            else:
                low, step = middle, step * 2
        return priced[:high], best

    def _is_hopeless(self, excluded: Sequence[Portion]) -> bool:
        """Return whether a graph without these portions in integers would not be wanted."""
        if not self._by_time:
            return False
        longer = 1 + sum(max(portion.gain, 0.0) for portion in excluded)
        return self.hopeless(self._fastest / longer)

    @cached_property
    def _fastest(self) -> float:
        """The speed-up, at most, with all layers in integers."""
        context = self.pricing.context
        if not context.example:
            return math.inf
        return speed_ratio(self.pricing.model, self.pricing.write({}).model, context).high

    def _without(self, excluded: Sequence[Portion]) -> Outcome:
        bound = self.pricing.judging.bound
        reasons = {name: each.reason(bound) for each in excluded for name in each.names}
        return self.pricing.write(reasons)


def choice_of(title: str, size_bytes: int, speedup: float | None, drop: Drop) -> Choice:
    """Return what the report says of a graph that was considered."""
    known = math.isfinite(drop.expected)
    return Choice(
        title=title,
        size_bytes=size_bytes,
        speedup=speedup,
        lost=drop.value if known else None,
        lost_error=drop.error if known else None,
    )


def _kept(portion: Portion) -> float:
    """Return the share of the variance that a portion keeps; least of all if it is not known."""
    return -math.inf if portion.kept is None else portion.kept
