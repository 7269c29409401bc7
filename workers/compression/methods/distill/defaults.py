"""The defaults of distillation: losses, augmentation, batches."""

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray

from app.domain.steps import Distill
from app.domain.steps.distill import Architecture, DistillLoss
from app.domain.steps.recover import Change, Recover
from workers.compression.executor import Executor, build
from workers.compression.learning.feed import Feed, feed_for, is_image, usual_kinds
from workers.compression.learning.portions import usual_batch
from workers.compression.measure.quality import judged_output
from workers.compression.samples.context import Context, Samples

_LOOKED_AT = 512
"""The number of samples on which the teacher's answers to mirrored images are compared."""
_STILL_KNOWN = 0.5
"""The least share of what a teacher knows of images that it also knows of them mirrored."""
_STEPS = 1000
"""The steps that random weights should be trained for."""
_LEAST_BATCH = 32
"""Fewer samples give coarse batch statistics."""


def resolved(parameters: Distill, teacher: ir.Model, context: Context) -> Distill:
    """Return the parameters, with defaults for what is missing.

    The losses are soft targets, and labels where the dataset's targets are classes and images are
    not mixed. A student that is built has random weights: see ``_from_scratch``.

    Args:
        parameters: the step's parameters.
        teacher: the graph that is imitated.
        context: the samples, seed, device.
    """
    samples = context.train
    recover = parameters.recover
    losses = parameters.losses or _default_losses(samples, recover)
    if isinstance(parameters.student, Architecture) and samples:
        recover = _from_scratch(recover, teacher, samples, context)
    return parameters.model_copy(update={"losses": losses, "recover": recover})


def _from_scratch(
    recover: Recover, teacher: ir.Model, samples: Samples, context: Context
) -> Recover:
    """Return how random weights are trained.

    Images are mirrored where the teacher knows them mirrored too, and mixed where they were made
    from it. Batches are as small as it takes to get enough steps: few samples, seen a few times,
    would else end before the weights have come far (Masters & Luschi 2018).
    """
    missing: dict[str, object] = {}
    if recover.augment is None:
        missing["augment"] = [*harmless(teacher, samples, context), *usual_kinds(samples)]
    if recover.batch_size is None:
        enough = max(_LEAST_BATCH, len(samples) * recover.epochs // _STEPS)
        missing["batch_size"] = min(enough, usual_batch(samples, len(samples)))
    return recover.model_copy(update=missing)


def _default_losses(samples: Samples | None, recover: Recover) -> list[DistillLoss]:
    imitate = DistillLoss(kind="soft_targets")
    targets = None if samples is None or recover.mixes else samples.targets
    if targets is None or targets.dtype.kind not in "iub":
        return [imitate]
    return [imitate, DistillLoss(kind="labels")]


def harmless(teacher: ir.Model, samples: Samples, context: Context) -> list[Change]:
    """Return the changes of an image that students see by default: mirroring, or nothing.

    A mirrored shirt is a shirt, and a mirrored 3 is not a 3. So images are mirrored where the
    teacher knows them mirrored too, at least half as well. What it knows is measured by Cohen's
    kappa (Cohen 1960) of its answers with the targets, which subtracts the agreement by chance.
    Where no targets are classes, its answers for the original images stand in for them. If the
    teacher does not give one class for each image, no change is harmless: the targets may have to
    be changed with the image.

    Images are never moved by default: they stay what they are, and a short training gets worse.

    Args:
        teacher: the graph that is imitated.
        samples: the samples that images are drawn from.
        context: seed, device, the output that is judged.
    """
    output = judged_output(teacher, context.evaluate)
    executor = build(teacher, outputs=[output]).to(context.device)
    drawn = samples.draw(_LOOKED_AT, context.seed)
    feed = feed_for(executor, drawn, context.device)
    first = feed.batch(list(drawn.indices[:1]))
    with torch.no_grad():
        scores = feed.outputs(executor, first)[output]
    image_input, *other_inputs = first.feeds
    is_classifier = scores.ndim == 2 and scores.shape[1] > 1 and scores.is_floating_point()
    if other_inputs or not is_image(first.feeds[image_input]) or not is_classifier:
        return []
    rows, answers, mirrored_answers = _mirrored(executor, output, feed, context.seed)
    right = _classes(samples, rows)
    right = answers if right is None else right
    known, still_known = kappa(answers, right), kappa(mirrored_answers, right)
    return ["flip"] if known > 0 and still_known >= _STILL_KNOWN * known else []


@torch.no_grad()
def _mirrored(
    executor: Executor, output: str, feed: Feed, seed: int
) -> tuple[list[int], NDArray[np.int64], NDArray[np.int64]]:
    """Mirror images at random.

    Returns:
        The rows of those that mirroring changes, and their classes before and after it.
    """
    mirroring_feed, random = replace(feed, kinds=("flip",)), np.random.default_rng(seed)
    changed_rows = list[int]()
    answers, mirrored_answers = list[NDArray[np.int64]](), list[NDArray[np.int64]]()
    for rows in feed.parts(feed.samples.indices):
        batches = feed.batch(rows), mirroring_feed.batch(rows, random)
        images, mirrored_images = (next(iter(batch.feeds.values())) for batch in batches)
        is_changed = (images != mirrored_images).flatten(1).any(1)[: len(rows)]
        changed_rows += [row for row, changed in zip(rows, is_changed, strict=True) if changed]
        for classes, batch in zip((answers, mirrored_answers), batches, strict=True):
            scores = feed.outputs(executor, batch)[output]
            classes.append(scores.argmax(1)[is_changed].cpu().numpy())
    return changed_rows, np.concatenate(answers), np.concatenate(mirrored_answers)


def _classes(samples: Samples, rows: list[int]) -> NDArray[np.int64] | None:
    """Return the classes of some samples; None where their targets are not one class each."""
    targets = samples.targets
    if targets is None or targets.dtype.kind not in "iu" or targets[:1].size != 1:
        return None
    classes: NDArray[np.int64] = targets[rows].reshape(-1).astype(np.int64)
    return classes if len(classes) and classes.min() >= 0 else None


def kappa(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    """Return Cohen's kappa, the agreement of two lists of classes beyond chance; at most 1.

    Args:
        one: classes ``[samples]``.
        other: classes ``[samples]`` of the same samples.

    Returns:
        0 where kappa is undefined: both lists are one class throughout, or there are no samples.
    """
    if not len(one):
        return 0.0
    count = int(max(one.max(), other.max())) + 1
    shares = [np.bincount(classes, minlength=count) / len(classes) for classes in (one, other)]
    chance = float(shares[0] @ shares[1])
    if chance >= 1.0:
        return 0.0
    return (float((one == other).mean()) - chance) / (1 - chance)
