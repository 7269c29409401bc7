"""The terms of the distillation loss, each a function of the student's and teacher's outputs."""

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
    """The inputs of the functions that build the terms."""

    outputs: Outputs
    """The teacher's outputs for some samples, its inner layers included."""
    answers: Sequence[str]
    """The names of the graph's outputs."""
    targets: Tensor | None
    judged: str
    yardstick: Yardstick | None
    pairs: Sequence[Pair]
    spatial: Sequence[Pair]
    labelled: bool
    """Whether a loss of labels learns the targets as classes."""
    seed: int
    device: str
    projections: dict[str, nn.Parameter] = field(default_factory=dict)
    """The projections that terms add; they are trained with the student, then discarded."""


def term(loss: DistillLoss, ingredients: Ingredients) -> Term:
    """Return the term of a loss, without its weight.

    Raises:
        DatasetMismatch: the loss is ``labels``, and the dataset has no fitting targets.
        StepFailed: the networks have no layers that the loss could compare.
    """
    return TERMS[loss.kind](loss, ingredients)


def _soft_targets(loss: DistillLoss, ingredients: Ingredients) -> Term:
    answers = {name: ingredients.outputs[name] for name in ingredients.answers}
    imitated = objectives.imitation(
        answers,
        ingredients.targets,
        ingredients.judged,
        loss.temperature,
        with_labels=ingredients.labelled,
    )
    return objectives.mean(imitated)


def _labels(_loss: DistillLoss, ingredients: Ingredients) -> Term:
    if ingredients.targets is None:
        raise DatasetMismatch("The dataset has no targets: leave the loss 'labels' out.")
    output = ingredients.outputs[ingredients.judged]
    return objectives.labels(ingredients.judged, output, ingredients.targets, ingredients.yardstick)


def _features(_loss: DistillLoss, ingredients: Ingredients) -> Term:
    """Return the squared error of projected layers over the teacher's variance (FitNets)."""
    generator = torch.Generator().manual_seed(ingredients.seed)
    terms = []
    for index, pair in enumerate(_required(ingredients.pairs, "features")):
        sizes = pair[1].channels, pair[0].channels
        drawn = torch.randn(sizes, generator=generator) * sizes[1] ** -0.5
        projection = nn.Parameter(drawn.to(ingredients.device))
        ingredients.projections[f"projection_{index}"] = projection
        scale = losses.variance(ingredients.outputs[pair[1].name])
        terms.append(_projected_term(pair, projection, scale))
    return objectives.mean(terms)


def _projected_term(pair: Pair, projection: nn.Parameter, scale: float) -> Term:
    def value(outputs: Outputs, teacher: Outputs, _targets: Tensor | None) -> Tensor:
        mine, theirs = _aligned(pair, outputs, teacher)
        return losses.squared_error(
            torch.einsum("oc,nc...->no...", projection, mine), theirs, scale
        )

    return value


def _attention(_loss: DistillLoss, ingredients: Ingredients) -> Term:
    pairs = _required(ingredients.spatial, "attention")
    return objectives.mean([_attention_term(pair) for pair in pairs])


def _attention_term(pair: Pair) -> Term:
    def value(outputs: Outputs, teacher: Outputs, _targets: Tensor | None) -> Tensor:
        mine, theirs = _aligned(pair, outputs, teacher)
        return losses.attention_transfer(mine.flatten(2), theirs.flatten(2))

    return value


def _relational(_loss: DistillLoss, ingredients: Ingredients) -> Term:
    """Return the loss of distances between samples, in the last inner layers or in the outputs."""
    last_pair = (
        ingredients.pairs[-1] if ingredients.pairs and not ingredients.pairs[-1][0].space else None
    )
    student_name, teacher_name = (
        (last_pair[0].name, last_pair[1].name)
        if last_pair
        else (ingredients.judged, ingredients.judged)
    )

    def value(outputs: Outputs, teacher: Outputs, _targets: Tensor | None) -> Tensor:
        return losses.relational(outputs[student_name].flatten(1), teacher[teacher_name].flatten(1))

    return value


TERMS: dict[str, Callable[[DistillLoss, Ingredients], Term]] = {
    "soft_targets": _soft_targets,
    "labels": _labels,
    "features": _features,
    "attention": _attention,
    "relational": _relational,
}


def _required(pairs: Sequence[Pair], kind: str) -> Sequence[Pair]:
    if not pairs:
        raise StepFailed(
            f"Student and teacher have no inner layers that '{kind}' could compare: leave it out."
        )
    return pairs


def _aligned(pair: Pair, outputs: Outputs, teacher: Outputs) -> tuple[Tensor, Tensor]:
    """Return both layers as ``[N, C, …]`` of the same spatial size; larger sizes are averaged."""
    student_features, teacher_features = (
        _channels_first(tap, values[tap.name])
        for tap, values in zip(pair, (outputs, teacher), strict=True)
    )
    places = [
        min(sizes)
        for sizes in zip(student_features.shape[2:], teacher_features.shape[2:], strict=True)
    ]
    return _averaged(student_features, places), _averaged(teacher_features, places)


def _channels_first(tap: Tap, value: Tensor) -> Tensor:
    return value.float().movedim(-1, 1) if tap.last else value.float()


def _averaged(value: Tensor, places: list[int]) -> Tensor:
    if list(value.shape[2:]) == places:
        return value
    if len(places) == 1:
        return F.adaptive_avg_pool1d(value, places[0])
    return F.adaptive_avg_pool2d(value, (places[0], places[1]))
