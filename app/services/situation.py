"""What is known of a model before any job runs: shares of it, and how advice says them in words."""

from dataclasses import dataclass

from app.domain.datasets import DatasetDescription
from app.domain.makeup import Makeup
from app.domain.models import Layer
from app.domain.percentages import percent
from app.domain.recommendations import Minimize
from app.domain.sensitivity import Sensitivity
from app.domain.steps import Outlook, Step
from app.domain.steps.quantize import MAIN_OPERATORS

_STRICT = 0.02
"""A bound of the loss of quality below which less is taken away."""

_BORNE = 0.01
"""The share that a layer may lose and count as bearing a form."""


@dataclass(frozen=True)
class Situation:
    """What is known before any job runs."""

    makeup: Makeup
    outlook: Outlook
    """What steps forecast from."""
    minimize: Minimize
    max_quality_drop: float | None
    data: DatasetDescription | None
    """Null without a dataset, and while it is still inspected."""
    has_data: bool
    generated: bool
    """Whether the samples are made from the model."""
    chart: Sensitivity | None
    """What each layer loses and saves, where that was measured."""
    trainable: bool
    """Whether nothing is known to stand in the way of training."""
    accelerates: frozenset[str] | None
    """The number formats that the processors of the target compute faster than float32; None where
    no worker has announced itself."""

    @property
    def trains(self) -> bool:
        """Whether a step may train."""
        return self.has_data and self.trainable

    @property
    def strict(self) -> bool:
        """Whether hardly any quality may be lost."""
        return self.max_quality_drop is not None and self.max_quality_drop < _STRICT

    def work_for(self, step: Step) -> float:
        """Return the share of the work in layers that a step does not leave alone."""
        return sum(layer.macs for layer in self._layers_for(step)) / max(self.makeup.macs, 1)

    def weights_for(self, step: Step) -> float:
        """Return the share of the parameters in layers that a step does not leave alone."""
        weights = sum(layer.parameters for layer in self._layers_for(step))
        return weights / max(self.makeup.parameters, 1)

    def _layers_for(self, step: Step) -> list[Layer]:
        return self.outlook.layers_beside(step.forecast(self.outlook).skipped)

    @property
    def in_integers(self) -> tuple[float, float]:
        """The share of the work that can be done in integers, and a guess of what that gains."""
        work = self.makeup
        layers = [
            layer
            for layer in work.layers
            if layer.parameters and layer.operator in MAIN_OPERATORS and layer.groups == 1
        ]
        lost = self.chart.costs_of("int8") if self.chart else {}
        share, borne = (
            sum(layer.macs for layer in some) / max(work.macs, 1)
            for some in (layers, [each for each in layers if lost.get(each.name, 0) < _BORNE])
        )
        return share, borne * self.integers

    @property
    def integers(self) -> float:
        """A guess of how many times int8 halves the latency, where all can compute in it."""
        return 0.9 if "int8" in (self.accelerates or ()) else 0.2

    @property
    def hardware(self) -> str:
        """What the processors have for int8, as the end of a clause; else empty."""
        if "int8" in (self.accelerates or ()):
            return ", and the processors here have instructions for it"
        return ""

    def charted(self, form: str) -> str:
        """Say what layers lose in a form, where that was measured; empty where it was not."""
        chart = self.chart
        if chart is None or (worst := chart.worst_of(form)) is None:
            return ""
        lost = chart.losses_of(form)
        borne = sum(share < _BORNE for share in lost.values())
        (name, most), (verb, what) = worst, chart.loss
        title = next(each.title for each in chart.forms if each.name == form)
        return (
            f" Measured alone ({title.lower()}, not trained), {borne} of {len(lost)} layers {verb}"
            f" less than {percent(_BORNE)} of {what}; '{name}' {verb}s most, {percent(most)}."
        )

    @property
    def file(self) -> str:
        """The share of the file that weights take, as a sentence; empty where it is not known."""
        share = self.makeup.weights_of_file
        return "" if share is None else f"Weights are {percent(share)} of the file. "

    @property
    def where(self) -> str:
        """Where the multiplications are, as a sentence."""
        parts = [part for part in self.makeup.parts if part.macs >= 0.1][:2]
        if not parts:
            return "The model multiplies little."
        most = f"{percent(parts[0].macs)} of the multiplications are in {parts[0].title}"
        return f"{most}{''.join(f', {percent(p.macs)} in {p.title}' for p in parts[1:])}."

    @property
    def samples(self) -> str:
        """What there is to train on, in words."""
        if self.generated:
            return "samples made from the model"
        if self.data is None:
            return "a dataset that is still inspected"
        return f"{self.data.samples:,} samples"
