"""Excludes layers from quantization until the graph meets the job's bound of the loss of quality.

What stays in float costs time or bytes, and what is quantized costs quality. So the layers that
lose the most quality for what they gain are excluded first. Layers are priced in portions of
neighbours: a single layer in float between layers in integers takes conversions on both sides.

Quality is measured on training samples: the held-out samples are for the verdict only.
"""

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx_ir as ir

from app.domain.reports import Choice, LayerPrice
from workers.compression.graph.load import load, save
from workers.compression.measure import quality
from workers.compression.measure.latency import time_ratio
from workers.compression.measure.reference import Reference
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.quantize.comparison import affordable
from workers.compression.methods.quantize.exclusions import Write, file_bytes
from workers.compression.methods.quantize.gains import BYTES, Gains
from workers.compression.samples.context import Context, Samples

_SHARE = 0.8
"""The share of the allowed drop that is used on training samples: held-out ones may drop more."""

_WORK = 3e11
"""Multiply-accumulates that one measurement of quality may take."""
_FEWEST, _MOST = 16, 512
"""The least and the greatest number of samples in a measurement, whatever its work."""

_RANKED = 8
"""The number of samples that layers are ranked on."""
_PORTIONS = 32
"""The greatest number of portions of neighbouring layers that are priced."""

_PRICING_SECONDS = 40.0
"""The time after which the loss of no further portion is measured."""

_LEAST_GAIN = 0.02
"""The least gain of a portion that counts, as a share of the mean: measured gains are not exact."""

Advance = Callable[[float], None]


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
        words = "it leaves" if len(self.names) == 1 else "it and its neighbours leave"
        return (
            f"left in float to keep the drop within {bound:g}: quantized alone, {words}"
            f" {self.kept:.2%} of the outputs' variance"
        )


def quantize_within_bound(
    write: Write,
    model: ir.Model,
    layers: Sequence[str],
    context: Context,
    advance: Advance,
    judging_samples: Samples | None = None,
    gains: Gains = BYTES,
) -> Outcome:
    """Quantize as many layers as the job's bound of the loss of quality allows.

    All layers are quantized if there is no bound or no data, or if the graph exceeded the bound
    before.

    Args:
        write: quantizes a copy of ``model``.
        model: the graph in float; not changed.
        layers: names of the nodes that can be quantized, in the graph's order.
        context: the bound, the data and the original.
        advance: called with the fraction done.
        judging_samples: the samples that quality is measured on; None takes the training split.
        gains: returns what portions of layers gain.
    """
    quantized = write({})
    samples = judging_samples or context.train
    if (
        context.max_quality_drop is None
        or not quantized.layers
        or samples is None
        or not len(samples)
    ):
        return quantized
    with tempfile.TemporaryDirectory() as scratch:
        judging = Judging(model, samples, context, Path(scratch))
        search = _Search(write, model, layers, judging, context, gains)
        if search.fits(quantized, 0) or judging.drop(model) > judging.bound * _SHARE:
            return replace(quantized, choices=search.choices)
        return search.run(advance)


class Judging:
    """Judges the quality of graphs against the original, and against the graph before the step.

    Args:
        model: the graph before the step.
        samples: the samples that quality is measured on, or more.
        context: the original, the metric, and the bound.
        directory: a directory for graphs.
    """

    def __init__(
        self, model: ir.Model, samples: Samples, context: Context, directory: Path
    ) -> None:
        self._before = before = directory / "float.onnx"
        save(model, before)
        self._path = directory / "candidate.onnx"
        original = context.original or before
        graph, threads = load(original), context.threads
        judge = quality.judge(graph, samples.targets, context.evaluate, context.metric, threads)
        output = quality.judged_output(graph, context.evaluate)
        count = affordable(model, samples, _WORK, _FEWEST, _MOST)
        drawn = samples.draw(count, context.seed)
        self._bounded = Reference(original, drawn, threads, judge, output)
        self._few, self._threads = samples.draw(_RANKED, context.seed), threads
        assert context.max_quality_drop is not None, "without a bound there is nothing to judge"
        self.bound = context.max_quality_drop

    def drop(self, model: ir.Model) -> float:
        """Return the drop of a graph's quality below the original's, as the verdict counts it."""
        save(model, self._path)
        return self._bounded.drop(self._path)

    def kept(self, model: ir.Model) -> float:
        """Return the share of the variance that a graph keeps of the one before the step."""
        save(model, self._path)
        return self._ranked.explained(self._path)

    @cached_property
    def _ranked(self) -> Reference:
        return Reference(self._before, self._few, self._threads)


@dataclass(frozen=True)
class _Search:
    """The search for the layers to exclude."""

    write: Write
    model: ir.Model
    layers: Sequence[str]
    judging: Judging
    context: Context
    gains: Gains
    choices: list[Choice] = field(default_factory=list)
    """The graphs that were judged."""

    def fits(self, outcome: Outcome, in_float: int) -> bool:
        """Judge a graph that leaves some layers in float; return whether it is within the bound."""
        lost, context = self.judging.drop(outcome.model), self.context
        speedup = None
        if self.gains.unit == "time" and context.example and context.has_time():
            ratio = time_ratio(self.model, outcome.model, context.example, context.threads)
            speedup = ratio.value
        self.choices.append(
            Choice(
                title=self._title(in_float),
                size_bytes=file_bytes(outcome.model),
                speedup=speedup,
                lost=lost if math.isfinite(lost) else None,
            )
        )
        return lost <= self.judging.bound * _SHARE

    def _title(self, in_float: int) -> str:
        """Return what a graph that leaves some layers in float is called in the report."""
        total = len(self.layers)
        if self.gains.unit == "bytes":
            return f"weights of {total - in_float} of {total} layers in few bits"
        return f"{in_float} of {total} layers in float" if in_float else f"all {total} in integers"

    def run(self, advance: Advance) -> Outcome:
        """Exclude the portions of the highest prices, then put layers of them back that fit.

        The last layers to be put back are those that lose the least, whatever they gain: the
        layer of the lowest price may lose too much where others would fit.
        """
        count = min(len(self.layers), _PORTIONS)
        portions = self._priced(
            [[str(name) for name in part] for part in np.array_split(self.layers, count)], advance
        )
        excluded, _ = self._fewest(portions)
        advance(0.7)
        names = [name for portion in excluded for name in portion.names]
        priced = portions
        if len(names) > len(excluded) and self.context.has_time():
            singles = self._priced([[name] for name in names], advance)
            priced = [*[each for each in portions if each not in excluded], *singles]
            excluded, _ = self._fewest(singles)
        _, best = self._fewest(sorted(excluded, key=_kept))
        advance(1.0)
        return replace(best, choices=self.choices, prices=self._reported(priced, best))

    def _priced(self, portions: list[list[str]], advance: Advance) -> list[Portion]:
        """Return portions with their prices, the highest price first.

        Portions for which there is no time left count with the mean loss of the others.
        """
        started = self.context.clock()
        gained = self.gains.measured(self.write, self.model, portions, self.context)
        kept = []
        for done, names in enumerate(portions):
            alone = {name: "" for name in self.layers if name not in names}
            spent = self.context.clock() - started
            has_time = self.context.has_time() and spent < _PRICING_SECONDS
            kept.append(self.judging.kept(self.write(alone).model) if has_time else None)
            advance(0.6 * done / len(portions))
        priced = [Portion(*each) for each in zip(portions, kept, gained, strict=True)]
        least = _LEAST_GAIN * max(float(np.mean(np.abs(gained))), 1e-12)
        losses = [1 - share for share in kept if share is not None]
        unknown = float(np.mean(losses)) if losses else 1.0
        return sorted(priced, key=lambda portion: -portion.price(least, unknown))

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
            )
            for portion in priced
            if portion.kept is not None
            for name in portion.names
        }
        return [prices[name] for name in self.layers if name in prices]


def _kept(portion: Portion) -> float:
    """Return the share of the variance that a portion keeps; least of all if it is not known."""
    return -math.inf if portion.kept is None else portion.kept
