"""Excludes layers from quantization until the graph meets the job's bound of the loss of quality.

What stays in float costs time or bytes, and what is quantized costs quality. So the layers that
lose the most quality for what they gain are excluded first. Layers are priced in portions of
neighbours: a single layer in float between layers in integers takes conversions on both sides.

Quality is measured on training samples: the held-out samples are for the verdict only.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial

import numpy as np
import onnx_ir as ir

from app.domain.layer_forms import LayerForm
from app.domain.reports import Choice, LayerPrice
from workers.compression.graph import runtime
from workers.compression.graph.narrow import stored_type
from workers.compression.measure.reference import Drop, Reference
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.quantize.exclusions import Write, file_bytes, speed_ratio
from workers.compression.methods.quantize.gains import BYTES, Gains
from workers.compression.methods.quantize.judging import Judging
from workers.compression.progress import Advance
from workers.compression.samples.context import Context

_PORTIONS = 32
"""The greatest number of portions of neighbouring layers that are priced."""

_PRICING_SECONDS = 40.0
"""The seconds of computing after which the loss of no further portion is measured."""

_LEAST_GAIN = 0.02
"""The least gain of a portion that counts, as a share of the mean: measured gains are not exact."""

_CHARTED = "What layers lose in integers was taken from the model's chart of sensitivity."


@dataclass(frozen=True)
class Portion:
    """Neighbouring layers, with the price of quantizing them."""

    names: list[str]
    kept: float | None
    """The share of the outputs' variance that is kept if they alone are quantized; None where there
    was no time to measure it."""
    gain: float
    """What they gain in integers, in any unit."""

    def price(self, least: float, unknown: float) -> float:
        """Return the loss of quality for each unit of gain.

        Args:
            least: the gain that counts in any case.
            unknown: the loss that counts where it was not measured.
        """
        lost = unknown if self.kept is None else 1 - self.kept
        return lost / max(self.gain, least)

    def reason(self, bound: float) -> str:
        """Return why the layers stay in float."""
        if self.kept is None:
            return f"left in float to keep the drop within {bound:g}: there was no time to price it"
        words = "it loses" if len(self.names) == 1 else "it and its neighbours lose"
        return (
            f"left in float to keep the drop within {bound:g}: quantized alone, {words}"
            f" {100 * (1 - self.kept):.2f} % of the outputs' variance"
        )


def quantize_within_bound(
    write: Write,
    model: ir.Model,
    layers: Sequence[str],
    context: Context,
    advance: Advance,
    judging: Judging | None,
    form: LayerForm | None,
    gains: Gains = BYTES,
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
    """
    quantized = write({})
    if judging is None or not quantized.layers:
        return quantized
    has_time = context.time_for(_PRICING_SECONDS)
    writer = f"{context.name_of(quantized.model)} {stored_type(quantized.model)}"
    search = _Search(write, writer, model, layers, judging, context, form, gains, has_time)
    if search.fits(quantized, 0) or not judging.fits(model):
        return replace(quantized, choices=search.choices)
    return search.run(advance)


@dataclass(frozen=True)
class _Search:
    """The search for the layers to exclude."""

    write: Write
    writer: str
    """What it writes without exclusions: the graph's fingerprint, and the type of its floats in the
    file, on which the bytes that are saved depend."""
    model: ir.Model
    layers: Sequence[str]
    judging: Judging
    context: Context
    form: LayerForm | None
    gains: Gains
    time_to_price: Callable[[], bool]
    """Whether there is time to measure the loss of another portion."""
    choices: list[Choice] = field(default_factory=list)
    """The graphs that were judged."""

    def fits(self, outcome: Outcome, in_float: int) -> bool:
        """Judge a graph that leaves some layers in float; return whether it is within the bound."""
        drop, context = self.judging.drop(outcome.model), self.context
        fits, speedup = drop.expected <= self.judging.limit, None
        if fits and self.gains.unit == "time" and context.example and context.has_time():
            speedup = speed_ratio(self.model, outcome.model, context).value
        self.choices.append(
            choice_of(self._title(in_float), file_bytes(outcome.model), speedup, drop)
        )
        return fits

    def _title(self, in_float: int) -> str:
        """Return what a graph that leaves some layers in float is called in the report."""
        total = len(self.layers)
        if self.gains.unit == "bytes":
            return f"weights of {total - in_float} of {total} layers in few bits"
        return f"{in_float} of {total} layers in float" if in_float else f"all {total} in integers"

    def run(self, advance: Advance) -> Outcome:
        """Exclude the portions of the highest prices, then put layers of them back that fit.

        Where weights are only stored, portions are enough: a layer more or less gains few bytes.
        The last layers to be put back are those that lose the least, whatever they gain: the
        layer of the lowest price may lose too much where others would fit.
        """
        count = min(len(self.layers), _PORTIONS)
        portions = self._priced(
            [[str(name) for name in part] for part in np.array_split(self.layers, count)], advance
        )
        excluded, best = self._fewest(portions)
        priced: Sequence[Portion] = portions
        if self.gains.unit == "time":
            priced, best = self._refined(portions, excluded, advance)
        advance(1.0)
        charted = any(name in self._losses for name in self.layers)
        notes = [*best.notes, *([_CHARTED] if charted else [])]
        return replace(best, notes=notes, choices=self.choices, prices=self._reported(priced, best))

    def _refined(
        self, portions: Sequence[Portion], excluded: Sequence[Portion], advance: Advance
    ) -> tuple[Sequence[Portion], Outcome]:
        """Put single layers of the excluded portions back; return what is priced, and the best."""
        advance(0.7)
        names, priced = [name for portion in excluded for name in portion.names], portions
        if len(names) > len(excluded) and self.context.has_time():
            singles = self._priced([[name] for name in names], advance)
            priced = [*[each for each in portions if each not in excluded], *singles]
            excluded, _ = self._fewest(singles)
        _, best = self._fewest(sorted(excluded, key=_kept))
        return priced, best

    @property
    def _losses(self) -> Mapping[str, float]:
        """What layers lose in integers, as the model's chart says."""
        return self.context.losses if self.gains.unit == "time" else {}

    def _priced(self, portions: list[list[str]], advance: Advance) -> list[Portion]:
        """Return portions with their prices, the highest price first.

        Portions for which there is no time left count with the mean loss of the others.
        """
        gained = self.context.prices.figures(
            ("gains", self.gains.unit, self.writer, portions),
            list[float],
            lambda: self.gains.measured(self.write, self.model, portions, self.context),
        )
        kept = self._kept_alone(portions, advance)
        priced = [Portion(*each) for each in zip(portions, kept, gained, strict=True)]
        least = _LEAST_GAIN * max(float(np.mean(np.abs(gained))), 1e-12)
        losses = [1 - share for share in kept if share is not None]
        unknown = float(np.mean(losses)) if losses else 1.0
        return sorted(priced, key=lambda portion: -portion.price(least, unknown))

    def _kept_alone(self, portions: list[list[str]], advance: Advance) -> list[float | None]:
        """Return the share of the variance that is kept if a portion alone is quantized.

        Where the model's chart holds what layers lose alone, their losses are added up; the other
        portions are quantized and run.
        """
        losses, ranking = self._losses, cache(lambda: self.judging.ranking(self.model))
        kept, has_time = list[float | None](), self.time_to_price
        for done, names in enumerate(portions):
            if all(name in losses for name in names):
                kept.append(max(1 - sum(losses[name] for name in names), 0.0))
            elif has_time():
                explained = partial(self._explained_alone, names, ranking)
                what = ("kept", self.writer, names, self.layers)
                kept.append(self.context.prices.figures(what, float, explained))
            else:
                kept.append(None)
            advance(0.6 * done / len(portions))
        return kept

    def _explained_alone(self, names: list[str], ranking: Callable[[], Reference]) -> float:
        """Return the share of the variance that is kept if these layers alone are quantized."""
        alone = {name: "" for name in self.layers if name not in names}
        with runtime.in_file(self.write(alone).model) as path:
            return float(ranking().explained(path))

    def _fewest(self, priced: Sequence[Portion]) -> tuple[Sequence[Portion], Outcome]:
        """Find, by bisection, the fewest of the first portions to exclude so that it fits."""
        low, high = 0, len(priced)  # with all of them in float, nothing is lost
        best, step = self._without(priced), 1
        while high - low > 1 and self.context.has_time():
            halfway = (low + high) // 2
            middle = min(low + step, halfway) if high == len(priced) else halfway
            outcome = self._without(priced[:middle])
            if self.fits(outcome, sum(len(portion.names) for portion in priced[:middle])):
                best, high = outcome, middle
            else:
                low, step = middle, step * 2
        return priced[:high], best

    def _without(self, excluded: Sequence[Portion]) -> Outcome:
        return self.write(
            {
                name: portion.reason(self.judging.bound)
                for portion in excluded
                for name in portion.names
            }
        )

    def _reported(self, priced: Sequence[Portion], best: Outcome) -> list[LayerPrice]:
        """Return the prices of layers for the report, in the graph's order."""
        quantized = {layer.node for layer in best.layers}
        prices = {
            name: LayerPrice(
                node=name,
                lost=1 - portion.kept,
                gain=portion.gain,
                unit=self.gains.unit,
                priced_together=len(portion.names),
                quantized=name in quantized,
                form=self.form,
            )
            for portion in priced
            if portion.kept is not None
            for name in portion.names
        }
        return [prices[name] for name in self.layers if name in prices]


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
