"""The jobs that may suit a model, by what it is made of: the rules of advice, one function each.

No rule names a figure that was not computed from the model's description. ``gain`` is a guess of
how many times the latency is halved; it orders proposals that were never measured on a like model,
and is never shown.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import log2
from typing import Any

from app.domain.datasets import DatasetDescription
from app.domain.makeup import Makeup, percent
from app.domain.recommendations import Minimize, Risk
from app.domain.sensitivity import Sensitivity
from app.domain.steps.quantize import MAIN_OPERATORS

_STRICT = 0.02
"""A bound of the loss of quality below which less is taken away."""

_BORNE = 0.01
"""The share of the outputs' variance that a layer may lose and count as bearing a form."""

_ENOUGH = 500
"""Samples from which on a training of a smaller network may pay."""

_MANY = 0.3
"""The share of a model that makes a form of layers worth a method of its own."""

_PREFER: dict[Minimize, str] = {"latency": "speed", "size": "size", "macs": "balanced"}
"""What ``auto`` is to seek."""

_UNIT: dict[Minimize, str] = {"latency": "time", "size": "size", "macs": "work"}


@dataclass(frozen=True)
class Situation:
    """What is known before any job runs."""

    makeup: Makeup
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


@dataclass(frozen=True)
class Proposal:
    """Steps that may suit a model."""

    id: str
    title: str
    steps: list[dict[str, Any]]
    reason: str
    risk: Risk
    caution: str
    gain: float = 0.0
    """A guess: how many times the latency is halved."""


def proposals(situation: Situation) -> Iterator[Proposal]:
    """Yield what may suit a model, in no order; what cannot be done is sorted out by the plan."""
    for rule in (_automatic, _stored, _dynamic, _half, _blocks, _trained_integers, _channels,
                 _both, _thinner, _zeros, _student):  # fmt: skip
        yield from rule(situation)


def _automatic(situation: Situation) -> Iterator[Proposal]:
    """Choose a form for each layer by measuring."""
    if not situation.has_data:
        return
    prefer = _PREFER[situation.minimize]
    share, gain = _in_integers(situation)
    yield Proposal(
        "quantize",
        "Quantize each layer in the form that pays",
        [{"method": "quantize", "prefer": prefer}],
        f"{percent(share)} of the multiplications are in layers that can compute in int8"
        f"{_hardware(situation)}. Each layer is measured, and takes the form that pays."
        f"{_charted(situation, 'int8')}",
        "low",
        "The result is never slower and never larger; quality is checked on samples set aside"
        f"{', which are made from the model' if situation.generated else ''}.",
        gain,
    )


def _stored(situation: Situation) -> Iterator[Proposal]:
    """Store weights in eight bits; computing stays as it is."""
    yield Proposal(
        "store-int8",
        "Store the weights in 8 bits",
        [{"method": "quantize", "mode": "weight_only", "unpack": "load", "weights": "int8"}],
        f"{_file(situation)}Weights of 8 bits take a quarter; they are unpacked when the model is"
        " loaded, so that a run takes as long as before. No data is needed.",
        "low",
        "Weights are rounded to 8 bits with a scale for each channel.",
    )


def _dynamic(situation: Situation) -> Iterator[Proposal]:
    """Find the ranges of matrix products at run time."""
    share = situation.makeup.work_in("product")
    if share < _MANY:
        return
    yield Proposal(
        "dynamic",
        "Compute matrix products in int8, without data",
        [{"method": "quantize", "mode": "dynamic"}],
        f"{percent(share)} of the multiplications are in products with weights, whose ranges can be"
        f" found while the model runs{_hardware(situation)}.",
        "medium",
        "Outliers in the activations cost accuracy, and nothing is calibrated.",
        share * _integers(situation) * 0.8,
    )


def _half(situation: Situation) -> Iterator[Proposal]:
    fast = "float16" in (situation.accelerates or ())
    how = "compute faster in it too" if fast else "compute in float32 all the same"
    known = "" if situation.accelerates is None else f"; the processors here {how}"
    yield Proposal(
        "float16",
        "Half precision",
        [{"method": "quantize", "mode": "float16"}],
        f"{_file(situation)}In float16 they take half{known}.",
        "low",
        "Values above 65,504 do not fit; layers that would overflow stay in float32.",
        0.6 if fast else 0.0,
    )


def _blocks(situation: Situation) -> Iterator[Proposal]:
    """Pack the weights of matrix products in blocks of four bits."""
    share = situation.makeup.weights_in("product")
    if share < _MANY:
        return
    yield Proposal(
        "blocks-int4",
        "Pack the weights of matrix products in 4 bits",
        [{"method": "quantize", "mode": "weight_only", "weights": "int4"}],
        f"{percent(share)} of the parameters are in products with weights; in blocks of 4 bits"
        " with a scale each they take about an eighth.",
        "medium",
        "Four bits are coarse: small models lose more than large ones.",
    )


def _trained_integers(situation: Situation) -> Iterator[Proposal]:
    """Train the graph as it will be shipped, in integers."""
    if not situation.trains:
        return
    share, gain = _in_integers(situation)
    yield Proposal(
        "train-int8",
        "Train the model in int8",
        [{"method": "quantize", "mode": "qat"}],
        f"{percent(share)} of the multiplications are in layers that can compute in"
        f" int8{_hardware(situation)}. Training with the rounding in place, on"
        f" {_samples(situation)}, wins back what calibration alone loses.",
        "medium",
        "It computes in int8 wherever it can, which is not faster on every layer; it takes longer.",
        gain * 0.95,
    )


def _channels(situation: Situation) -> Iterator[Proposal]:
    """Cut channels, and train if possible."""
    if situation.trains:
        share = 0.3 if situation.strict else 0.5
        yield Proposal(
            f"prune-{100 * share:.0f}",
            f"Cut {percent(share)} and train",
            [_cut(situation, share)],
            f"{_where(situation)} Channels that matter least go, with all that is coupled to"
            f" them, until {percent(share)} of the {_UNIT[situation.minimize]} is gone; training on"
            f" {_samples(situation)} wins quality back.{_charted(situation, 'channels_50')}",
            "medium",
            "How much comes back depends on the data: too few samples, or others than the model was"
            " trained on, cost quality.",
            -log2(1 - share) * 0.6,
        )
    else:
        why = (
            "the model cannot be trained here"
            if situation.has_data
            else "there is no data to train on"
        )
        yield Proposal(
            "prune-20",
            "Cut a fifth without training",
            [{"method": "prune", "ratio": 0.2, "of": situation.minimize}],
            f"{_where(situation)} Channels that matter least go; {why}.",
            "high",
            "Without training, quality is lost that nothing wins back.",
            -log2(0.8) * 0.6,
        )


def _both(situation: Situation) -> Iterator[Proposal]:
    """Cut channels and train, then quantize what is left."""
    if not situation.trains:
        return
    share = 0.3 if situation.strict else 0.5
    prefer = _PREFER[situation.minimize]
    integers, gain = _in_integers(situation)
    yield Proposal(
        f"prune-{100 * share:.0f}-quantize",
        f"Cut {percent(share)}, train, then quantize",
        [_cut(situation, share), {"method": "quantize", "prefer": prefer}],
        f"{_where(situation)} Channels that matter least go until {percent(share)} of the"
        f" {_UNIT[situation.minimize]} is gone, training on {_samples(situation)} wins quality"
        f" back, and each layer then takes the form that pays: {percent(integers)} of today's"
        f" multiplications are in layers that can compute in int8{_hardware(situation)}.",
        "medium",
        "Both steps cost quality; the second is bounded by what the job allows.",
        gain - log2(1 - share) * 0.6,
    )


def _thinner(situation: Situation) -> Iterator[Proposal]:
    """Replace large layers by thinner ones."""
    share = situation.makeup.work_in("product", "convolution")
    if share < _MANY:
        return
    ratio = 0.2
    step: dict[str, Any] = {"method": "low_rank", "ratio": ratio, "of": situation.minimize}
    trained = ""
    if situation.trains:
        step["recover"] = {"epochs": 10}
        trained = f" Training on {_samples(situation)} wins quality back."
    yield Proposal(
        "low-rank-20",
        "Replace layers by thinner ones",
        [step],
        f"{percent(share)} of the multiplications are in layers that a product of two or three"
        f" thinner ones may stand for; {percent(ratio)} of the {_UNIT[situation.minimize]} is to"
        f" go.{trained}",
        "medium" if situation.trains else "high",
        "Weights of full rank lose much."
        if situation.trains
        else "Weights of full rank lose much, and nothing wins it back without training.",
        -log2(1 - ratio) * 0.3,
    )


def _zeros(situation: Situation) -> Iterator[Proposal]:
    """Set most weights to zero, and store the rest by position."""
    if situation.minimize != "size" or not situation.trains:
        return
    yield Proposal(
        "zeros-80-store",
        "Set 80 % of the weights to zero, and store the rest in 8 bits",
        [
            {
                "method": "prune",
                "granularity": "unstructured",
                "sparsity": 0.8,
                "recover": {"epochs": 10},
            },
            {"method": "quantize", "mode": "weight_only", "unpack": "load"},
        ],
        f"{_file(situation)}What is zero takes no bytes; training on {_samples(situation)} wins"
        " quality back.",
        "medium",
        "The file is smaller and a run takes as long as before: zeros are multiplied too.",
    )


def _student(situation: Situation) -> Iterator[Proposal]:
    """Train a narrower copy to answer as the model does."""
    if not situation.trains or situation.strict:
        return
    known = situation.data.samples if situation.data else _ENOUGH
    if known < _ENOUGH:
        return
    yield Proposal(
        "distill-half",
        "Teach a model of half the width",
        [{"method": "distill", "student": {"derive": {"width": 0.5}}}],
        f"{_where(situation)} Half of each layer's channels need about a quarter of the work; the"
        f" student learns the model's own answers on {_samples(situation)}, so that labels are not"
        " needed.",
        "high",
        "A student needs much data and time, and may stay behind its teacher.",
        2 * 0.6,
    )


def _cut(situation: Situation, share: float) -> dict[str, Any]:
    return {
        "method": "prune",
        "ratio": share,
        "of": situation.minimize,
        "recover": {"epochs": 10},
    }


def _in_integers(situation: Situation) -> tuple[float, float]:
    """Return the share of the work that can be done in integers, and a guess of what that gains."""
    work = situation.makeup
    layers = [
        layer
        for layer in work.layers
        if layer.parameters and layer.operator in MAIN_OPERATORS and layer.groups == 1
    ]
    lost = situation.chart.costs_of("int8") if situation.chart else {}
    share, borne = (
        sum(layer.macs for layer in some) / max(work.macs, 1)
        for some in (layers, [each for each in layers if lost.get(each.name, 0) < _BORNE])
    )
    return share, borne * _integers(situation)


def _integers(situation: Situation) -> float:
    return 0.9 if "int8" in (situation.accelerates or ()) else 0.2


def _hardware(situation: Situation) -> str:
    if "int8" in (situation.accelerates or ()):
        return ", and the processors here have instructions for it"
    return ""


def _charted(situation: Situation, form: str) -> str:
    """Say what layers lose in a form, where that was measured; empty where it was not."""
    chart = situation.chart
    if chart is None or not (costs := chart.costs_of(form)):
        return ""
    borne = sum(cost < _BORNE for cost in costs.values())
    worst = max(costs, key=lambda name: costs[name])
    title = next(each.title for each in chart.forms if each.name == form)
    return (
        f" Measured alone ({title.lower()}, not trained), {borne} of {len(costs)} layers lose less"
        f" than {percent(_BORNE)} of the outputs' variance; '{worst}' loses most,"
        f" {percent(costs[worst])}."
    )


def _file(situation: Situation) -> str:
    share = situation.makeup.weights_of_file
    return "" if share is None else f"Weights are {percent(share)} of the file. "


def _where(situation: Situation) -> str:
    """Say where the multiplications are."""
    parts = [part for part in situation.makeup.parts if part.macs >= 0.1][:2]
    if not parts:
        return "The model multiplies little."
    told = [f"{percent(part.macs)} of the multiplications are in {part.title}" for part in parts]
    return f"{told[0]}{f', {percent(parts[1].macs)} in {parts[1].title}' if len(told) > 1 else ''}."


def _samples(situation: Situation) -> str:
    if situation.generated:
        return "samples made from the model"
    if situation.data is None:
        return "a dataset that is still inspected"
    return f"{situation.data.samples:,} samples"
