"""What a student learns from, and how pictures are changed, where the request leaves it open."""

from dataclasses import replace
from typing import get_args

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray

from app.domain.steps import Distill
from app.domain.steps.distill import Architecture, DistillLoss
from app.domain.steps.recover import Change
from workers.compression.executor import build
from workers.compression.learning.feed import feed_for, is_image
from workers.compression.measure.quality import judged_output
from workers.compression.samples.context import Context, Samples

_LOOKED_AT = 512
"""Samples on which the teacher is asked what changes of a picture mean to it."""
_ALIKE = 0.5
"""Cohen's kappa from which answers to changed pictures count as those to the pictures."""


def resolved(parameters: Distill, teacher: ir.Model, context: Context) -> Distill:
    """Return the parameters with the losses and the augmentation that the request leaves open.

    Labels are learned beside soft targets where the dataset has classes as targets. A student that
    is built starts from nothing, so its pictures are mirrored and moved where that does not change
    what the teacher answers.

    Args:
        parameters: of the step.
        teacher: the graph that is imitated.
        context: the samples, seed, device.
    """
    samples = context.train
    losses = parameters.losses or _losses(samples)
    recover = parameters.recover
    if recover.augment is None:
        built = isinstance(parameters.student, Architecture) and samples is not None
        changes = harmless(teacher, samples, context) if built and samples else []
        recover = recover.model_copy(update={"augment": changes})
    return parameters.model_copy(update={"losses": losses, "recover": recover})


def _losses(samples: Samples | None) -> list[DistillLoss]:
    imitate = DistillLoss(kind="soft_targets")
    targets = None if samples is None else samples.targets
    if targets is None or targets.dtype.kind not in "iub":
        return [imitate]
    return [imitate, DistillLoss(kind="labels")]


def harmless(teacher: ir.Model, samples: Samples, context: Context) -> list[Change]:
    """Return the changes of a picture that leave the teacher's answers as they are.

    A mirrored shirt is a shirt, and a mirrored 3 is none. The teacher knows: its classes for
    changed pictures are compared with those for the pictures by Cohen's kappa (Cohen 1960), which
    leaves out what agrees by chance. Nothing is changed where the teacher does not name one class
    for each picture, as the targets may then move with the picture.

    Args:
        teacher: the graph that is imitated.
        samples: some are drawn.
        context: seed, device, the output that is judged.
    """
    output = judged_output(teacher, context.evaluate)
    executor = build(teacher, outputs=[output]).to(context.device)
    drawn = samples.draw(_LOOKED_AT, context.seed)
    feed = feed_for(executor, drawn, context.device)
    first = feed.batch(list(drawn.indices[:1]))
    with torch.no_grad():
        scores = feed.outputs(executor, first)[output]
    picture, *others = first.feeds
    one_class_each = scores.ndim == 2 and scores.shape[1] > 1 and scores.is_floating_point()
    if others or not is_image(first.feeds[picture]) or not one_class_each:
        return []

    @torch.no_grad()
    def is_harmless(kind: Change) -> bool:
        changing = replace(feed, kinds=(kind,))
        random = np.random.default_rng(context.seed)
        plain, changed = list[NDArray[np.int64]](), list[NDArray[np.int64]]()
        for rows in feed.parts(drawn.indices):
            batches = feed.batch(rows), changing.batch(rows, random)
            before, after = (batch.feeds[picture] for batch in batches)
            moved = (before != after).flatten(1).any(1)[: len(rows)]
            for answers, batch in zip((plain, changed), batches, strict=True):
                scores = feed.outputs(executor, batch)[output]
                answers.append(scores.argmax(1)[moved].cpu().numpy())
        return kappa(np.concatenate(plain), np.concatenate(changed)) >= _ALIKE

    return [kind for kind in get_args(Change) if is_harmless(kind)]


def kappa(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    """Return Cohen's kappa: by how much two lists of classes agree beyond chance, 1 at most.

    Args:
        one: classes ``[samples]``.
        other: classes ``[samples]`` of the same samples.

    Returns:
        0 where nothing can be told: both name one class throughout, or there are no samples.
    """
    if not len(one):
        return 0.0
    count = int(max(one.max(), other.max())) + 1
    shares = [np.bincount(each, minlength=count) / len(each) for each in (one, other)]
    chance = float(shares[0] @ shares[1])
    if chance >= 1.0:
        return 0.0
    return (float((one == other).mean()) - chance) / (1 - chance)
