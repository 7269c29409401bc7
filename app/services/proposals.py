"""The jobs that may suit a model, by what it is made of: the rules of advice, one function each.

No rule names a figure that was not computed from the model's description. ``gain`` is a guess of
how many times the latency is halved; it orders proposals that were never measured on a like model,
and is never shown.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import log2
from typing import Any

from app.domain.percentages import percent
from app.domain.recommendations import Minimize, Risk
from app.domain.steps import LowRank, Quantize
from app.services.situation import Situation

_ENOUGH = 500
"""Samples from which on a training of a smaller network may pay."""

_MANY = 0.3
"""The share of a model that makes a form of layers worth a method of its own."""

_PREFER: dict[Minimize, str] = {"latency": "speed", "size": "size", "macs": "balanced"}
"""What ``auto`` is to seek."""

_UNIT: dict[Minimize, str] = {"latency": "time", "size": "size", "macs": "work"}


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
    share, gain = situation.in_integers
    yield Proposal(
        "quantize",
        "Quantize each layer in the form that pays",
        [{"method": "quantize", "prefer": prefer}],
        f"{percent(share)} of the multiplications are in layers that can compute in int8"
        f"{situation.hardware}. Each layer is measured, and takes the form that pays."
        f"{situation.charted('int8')}",
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
        f"{situation.file}Weights of 8 bits take a quarter; they are unpacked when the model is"
        " loaded, so that a run takes as long as before. No data is needed.",
        "low",
        "Weights are rounded to 8 bits with a scale for each channel.",
    )


def _dynamic(situation: Situation) -> Iterator[Proposal]:
    """Find the ranges of matrix products at run time."""
    share = situation.work_for(Quantize(mode="dynamic"))
    if share < _MANY:
        return
    yield Proposal(
        "dynamic",
        "Compute matrix products in int8, without data",
        [{"method": "quantize", "mode": "dynamic"}],
        f"{percent(share)} of the multiplications are in products with weights, whose ranges can be"
        f" found while the model runs{situation.hardware}.",
        "medium",
        "Outliers in the activations cost accuracy, and nothing is calibrated.",
        share * situation.integers * 0.8,
    )


def _half(situation: Situation) -> Iterator[Proposal]:
    fast = "float16" in (situation.accelerates or ())
    how = "compute faster in it too" if fast else "compute in float32 all the same"
    known = "" if situation.accelerates is None else f"; the processors here {how}"
    yield Proposal(
        "float16",
        "Half precision",
        [{"method": "quantize", "mode": "float16"}],
        f"{situation.file}In float16 they take half{known}.",
        "low",
        "Values above 65,504 do not fit; layers that would overflow stay in float32.",
        0.6 if fast else 0.0,
    )


def _blocks(situation: Situation) -> Iterator[Proposal]:
    """Pack the weights of matrix products in blocks of four bits."""
    share = situation.weights_for(Quantize(mode="weight_only", weights="int4"))
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
    share, gain = situation.in_integers
    yield Proposal(
        "train-int8",
        "Train the model in int8",
        [{"method": "quantize", "mode": "qat"}],
        f"{percent(share)} of the multiplications are in layers that can compute in"
        f" int8{situation.hardware}. Training with the rounding in place, on"
        f" {situation.samples}, wins back what calibration alone loses.",
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
            f"{situation.where} Channels that matter least go, with all that is coupled to"
            f" them, until {percent(share)} of the {_UNIT[situation.minimize]} is gone; training on"
            f" {situation.samples} wins quality back.{situation.charted('channels_50')}",
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
            f"{situation.where} Channels that matter least go; {why}.",
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
    integers, gain = situation.in_integers
    yield Proposal(
        f"prune-{100 * share:.0f}-quantize",
        f"Cut {percent(share)}, train, then quantize",
        [_cut(situation, share), {"method": "quantize", "prefer": prefer}],
        f"{situation.where} Channels that matter least go until {percent(share)} of the"
        f" {_UNIT[situation.minimize]} is gone, training on {situation.samples} wins quality"
        f" back, and each layer then takes the form that pays: {percent(integers)} of today's"
        f" multiplications are in layers that can compute in int8{situation.hardware}.",
        "medium",
        "Both steps cost quality; the second is bounded by what the job allows.",
        gain - log2(1 - share) * 0.6,
    )


def _thinner(situation: Situation) -> Iterator[Proposal]:
    """Replace large layers by thinner ones."""
    share = situation.work_for(LowRank())
    if share < _MANY:
        return
    ratio = 0.2
    step: dict[str, Any] = {"method": "low_rank", "ratio": ratio, "of": situation.minimize}
    trained = ""
    if situation.trains:
        step["recover"] = {"epochs": 10}
        trained = f" Training on {situation.samples} wins quality back."
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
        f"{situation.file}What is zero takes no bytes; training on {situation.samples} wins"
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
        f"{situation.where} Half of each layer's channels need about a quarter of the work; the"
        f" student learns the model's own answers on {situation.samples}, so that labels are not"
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
