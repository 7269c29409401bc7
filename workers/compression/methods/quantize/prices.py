"""Prices of layers: what portions of neighbours lose in quality, and gain, if they are quantized.

A single layer in float between layers in integers takes conversions on both sides, so neighbours
are priced together.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import onnx_ir as ir

from app.domain.layer_forms import LayerForm
from app.domain.reports import LayerPrice
from workers.compression.graph import runtime
from workers.compression.measure.reference import Reference
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.quantize.exclusions import Write
from workers.compression.methods.quantize.gains import Gains, shares_of_work
from workers.compression.methods.quantize.judging import Judging
from workers.compression.progress import Advance
from workers.compression.samples.context import Context

_LEAST_GAIN = 0.02
"""The least gain of a portion that counts, as a share of the mean: measured gains are not exact."""


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


@dataclass(frozen=True)
class Pricing:
    """Prices the layers of a graph in one form."""

    write: Write
    written: str
    """Stands for the graph that is written without exclusions: its fingerprint, and the type of its
    floats in the file, on which the bytes that are saved depend."""
    model: ir.Model
    """The graph in float; not changed."""
    layers: Sequence[str]
    """The layers that can be quantized, in the graph's order."""
    judging: Judging
    context: Context
    gains: Gains

    def portions(self, most: int) -> list[list[str]]:
        """Return the layers in portions of neighbours."""
        count = min(len(self.layers), most)
        return [[str(name) for name in part] for part in np.array_split(self.layers, count)]

    def gained(self, portions: list[list[str]]) -> list[float]:
        """Return what portions of layers, which are given by name, gain."""
        return self.context.prices.figures(
            ("gains", self.gains.unit, self.written, portions),
            list[float],
            lambda: self.gains.measured(self.write, self.model, portions, self.context),
        )

    def single(
        self, portions: Sequence[Portion], has_time: Callable[[], bool], advance: Advance
    ) -> list[Portion]:
        """Return the layers of portions that gain time, one by one, as ``with_losses`` does.

        What a portion gains is divided by the layers' work: the time that a single layer saves is
        less than what timing tells apart.
        """
        names = [[name] for portion in portions for name in portion.names]
        models = (self.model, self.write({}).model)
        work = dict(zip((name for (name,) in names), shares_of_work(models, names, self.context),
                        strict=True))  # fmt: skip
        gained = [
            portion.gain * work[name] / max(sum(work[each] for each in portion.names), 1e-12)
            for portion in portions
            for name in portion.names
        ]
        return self.with_losses(names, gained, has_time, advance)

    @property
    def losses(self) -> Mapping[str, float]:
        """What layers lose in integers, as the model's chart says."""
        return self.context.losses if self.gains.unit == "time" else {}

    def with_losses(
        self,
        portions: list[list[str]],
        gained: Sequence[float],
        has_time: Callable[[], bool],
        advance: Advance,
    ) -> list[Portion]:
        """Return portions with their prices, the highest price first.

        Portions for which there is no time left count with the mean loss of the others.

        Args:
            portions: names of layers.
            gained: what each portion gains.
            has_time: whether there is time to measure the loss of another portion.
            advance: called with the fraction done.
        """
        kept = self._kept_alone(portions, has_time, advance)
        priced = [Portion(*each) for each in zip(portions, kept, gained, strict=True)]
        least = _LEAST_GAIN * max(float(np.mean(np.abs(gained))), 1e-12)
        losses = [1 - share for share in kept if share is not None]
        unknown = float(np.mean(losses)) if losses else 1.0
        return sorted(priced, key=lambda portion: -portion.price(least, unknown))

    def _kept_alone(
        self, portions: list[list[str]], has_time: Callable[[], bool], advance: Advance
    ) -> list[float | None]:
        """Return the share of the variance that is kept if a portion alone is quantized.

        Where the model's chart holds what layers lose alone, their losses are added up; the other
        portions are quantized and run.
        """
        losses, ranking = self.losses, cache(lambda: self.judging.ranking(self.model))
        kept = list[float | None]()
        for done, names in enumerate(portions):
            if all(name in losses for name in names):
                kept.append(max(1 - sum(losses[name] for name in names), 0.0))
            elif has_time():
                explained = partial(self._explained_alone, names, ranking)
                what = ("kept", self.written, names, self.layers)
                kept.append(self.context.prices.figures(what, float, explained))
            else:
                kept.append(None)
            advance(done / len(portions))
        return kept

    def _explained_alone(self, names: list[str], ranking: Callable[[], Reference]) -> float:
        """Return the share of the variance that is kept if these layers alone are quantized."""
        alone = {name: "" for name in self.layers if name not in names}
        with runtime.in_file(self.write(alone).model) as path:
            return float(ranking().explained(path))

    def reported(
        self, priced: Sequence[Portion], best: Outcome, form: LayerForm | None
    ) -> list[LayerPrice]:
        """Return the prices of layers for the report, in the graph's order.

        Args:
            priced: the portions, those without a measured loss too, which are left out.
            best: the graph that was chosen.
            form: what layers become.
        """
        quantized = {layer.node for layer in best.layers}
        saved = dict.fromkeys(self.layers, 0)
        for layer in self.write({}).layers:
            saved[layer.node] = saved.get(layer.node, 0) + layer.bytes_before - layer.bytes_after
        prices = {
            name: LayerPrice(
                node=name,
                lost=1 - portion.kept,
                gain=portion.gain,
                unit=self.gains.unit,
                bytes_saved=sum(saved[each] for each in portion.names),
                time_saved=portion.gain if self.gains.unit == "time" else 0.0,
                priced_together=len(portion.names),
                quantized=name in quantized,
                form=form,
            )
            for portion in priced
            if portion.kept is not None
            for name in portion.names
        }
        return [prices[name] for name in self.layers if name in prices]
