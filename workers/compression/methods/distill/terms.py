"""The terms of what a student minimises, each from its outputs and the teacher's."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own convention)

from app.domain.problems import DatasetMismatch, StepFailed
from app.domain.steps.distill import DistillLoss
from workers.compression.learning import losses, objectives
from workers.compression.learning.objectives import Outputs, Term
from workers.compression.measure.quality import Yardstick
from workers.compression.methods.distill.taps import Pair, Tap


@dataclass(frozen=True)
class Ingredients:
    """What the terms are made from."""

    outputs: Outputs
    """The teacher's for some samples, those of its taps included."""
    answers: Sequence[str]
    """The names of those that are the graph's."""
    targets: Tensor | None
    judged: str
    yardstick: Yardstick | None
    pairs: Sequence[Pair]
    spatial: Sequence[Pair]
    labelled: bool
    """Whether the targets are learned as classes."""
    seed: int
    device: str
    projections: dict[str, nn.Parameter] = field(default_factory=dict)
    """Trained beside the student, and thrown away; the terms put theirs here."""


def term(loss: DistillLoss, given: Ingredients) -> Term:
    """Return one term, without its weight.

    Raises:
        DatasetMismatch: ``labels`` without targets that fit.
        StepFailed: there is nothing to compare.
    """
    return TERMS[loss.kind](loss, given)


def _soft_targets(loss: DistillLoss, given: Ingredients) -> Term:
    answers = {name: given.outputs[name] for name in given.answers}
    imitated = objectives.imitation(
        answers, given.targets, given.judged, loss.temperature, beside_labels=given.labelled
    )
    return objectives.mean(imitated)


def _labels(_loss: DistillLoss, given: Ingredients) -> Term:
    if given.targets is None:
        raise DatasetMismatch("The dataset has no targets: leave the loss 'labels' out.")
    output = given.outputs[given.judged]
    return objectives.labels(given.judged, output, given.targets, given.yardstick)


def _features(_loss: DistillLoss, given: Ingredients) -> Term:
    """Return the squared error of projected layers over the teacher's variance (FitNets)."""
    generator = torch.Generator().manual_seed(given.seed)
    terms = []
    for index, pair in enumerate(_some(given.pairs, "features")):
        sizes = pair[1].channels, pair[0].channels
        drawn = torch.randn(sizes, generator=generator) * sizes[1] ** -0.5
        projection = nn.Parameter(drawn.to(given.device))
        given.projections[f"projection_{index}"] = projection
        scale = losses.variance(given.outputs[pair[1].name])
        terms.append(_projected(pair, projection, scale))
    return objectives.mean(terms)


def _projected(pair: Pair, projection: nn.Parameter, scale: float) -> Term:
    def value(outputs: Outputs, teacher: Outputs, _targets: Tensor | None) -> Tensor:
        mine, theirs = _aligned(pair, outputs, teacher)
        return losses.squared_error(
            torch.einsum("oc,nc...->no...", projection, mine), theirs, scale
        )

    return value


def _attention(_loss: DistillLoss, given: Ingredients) -> Term:
    pairs = _some(given.spatial, "attention")
    return objectives.mean([_attended(pair) for pair in pairs])


def _attended(pair: Pair) -> Term:
    def value(outputs: Outputs, teacher: Outputs, _targets: Tensor | None) -> Tensor:
        mine, theirs = _aligned(pair, outputs, teacher)
        return losses.attention_transfer(mine.flatten(2), theirs.flatten(2))

    return value


def _relational(_loss: DistillLoss, given: Ingredients) -> Term:
    """Return the loss of distances, in the last layers before the answer or in the answer."""
    last = given.pairs[-1] if given.pairs and not given.pairs[-1][0].space else None
    mine, theirs = (last[0].name, last[1].name) if last else (given.judged, given.judged)

    def value(outputs: Outputs, teacher: Outputs, _targets: Tensor | None) -> Tensor:
        return losses.relational(outputs[mine].flatten(1), teacher[theirs].flatten(1))

    return value


TERMS: dict[str, Callable[[DistillLoss, Ingredients], Term]] = {
    "soft_targets": _soft_targets,
    "labels": _labels,
    "features": _features,
    "attention": _attention,
    "relational": _relational,
}


def _some(pairs: Sequence[Pair], kind: str) -> Sequence[Pair]:
    if not pairs:
        raise StepFailed(
            f"Student and teacher have no inner layers that '{kind}' could compare: leave it out."
        )
    return pairs


def _aligned(pair: Pair, outputs: Outputs, teacher: Outputs) -> tuple[Tensor, Tensor]:
    """Return both layers as ``[N, C, …]`` with the same places: the finer is averaged."""
    mine, theirs = (
        _channels_first(tap, given[tap.name])
        for tap, given in zip(pair, (outputs, teacher), strict=True)
    )
    places = [min(sizes) for sizes in zip(mine.shape[2:], theirs.shape[2:], strict=True)]
    return _averaged(mine, places), _averaged(theirs, places)


def _channels_first(tap: Tap, value: Tensor) -> Tensor:
    return value.float().movedim(-1, 1) if tap.last else value.float()


def _averaged(value: Tensor, places: list[int]) -> Tensor:
    if list(value.shape[2:]) == places:
        return value
    if len(places) == 1:
        return F.adaptive_avg_pool1d(value, places[0])
    return F.adaptive_avg_pool2d(value, (places[0], places[1]))
