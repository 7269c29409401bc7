"""Losses for the metrics that need a loss of their own.

For the other metrics (``top1``, ``top5``, ``f1``, ``mse``) the targets decide; see
``objectives.py``.
"""

from collections.abc import Callable
from functools import partial
from typing import assert_never

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own convention)

from app.domain.problems import DatasetMismatch
from workers.compression.learning import losses
from workers.compression.measure.metrics.masks import counted
from workers.compression.measure.quality import Yardstick
from workers.compression.samples.channels import candidates

Loss = Callable[[Tensor, Tensor], Tensor]
"""From a batch of outputs ``[N, …]`` and its targets to a number, a mean over samples."""

_UNIT = 1e-6


def loss_of(yardstick: Yardstick, output: Tensor, targets: Tensor) -> Loss | None:
    """Return the loss for a metric; None where the targets decide instead.

    Args:
        yardstick: the metric, its output and its parameters.
        output: the values of the output for some samples, ``[N, …]`` of floats.
        targets: the targets of these samples.

    Raises:
        DatasetMismatch: there is no loss for such an output and the metric.
    """
    match yardstick.metric:
        case "top1" | "top5" | "f1" | "mse":
            return None
        case "mae":
            return partial(losses.absolute_error, scale=losses.variance(targets.float()) ** 0.5)
        case "r2":
            scale = losses.variances(targets.reshape(output.shape))
            return lambda prediction, target: losses.squared_error(prediction, target, scale)
        case "cosine":
            return cosine_distance
        case "iou":
            return _of_masks(yardstick, output, targets)
        case "cer":
            return _of_sequences(yardstick, output, targets)
        case _:
            assert_never(yardstick.metric)


def cosine_distance(output: Tensor, target: Tensor) -> Tensor:
    """Return the mean of 1 − cosine over the vectors: one per sample, or one per position.

    Args:
        output: ``[N, C]``, or of more dimensions with channels as ``samples/channels.py`` has them.
        target: the desired vectors, as many elements.
    """
    shape = [size for size in output.shape[1:] if size > 1]
    axes = candidates((1, *shape))
    prediction, desired = (values.reshape(-1, *shape).float() for values in (output, target))
    return (
        1 - F.cosine_similarity(prediction, desired, dim=axes[0] if axes else 1, eps=_UNIT).mean()
    )


def masked_cross_entropy(
    output: Tensor, targets: Tensor, axis: int, *, probabilities: bool
) -> Tensor:
    """Return the cross-entropy over valid positions: targets of -1 and of no class are ignored.

    Args:
        output: scores, classes along ``axis``.
        targets: ``[N, …]``, a class for each position.
        axis: the axis of the classes.
        probabilities: whether the scores are probabilities.
    """
    scores = losses.logits(output, axis, probabilities=probabilities)
    labels = targets.reshape(-1).long()
    valid = torch.from_numpy(counted(labels.cpu().numpy(), scores.shape[1])).to(labels.device)
    if not bool(valid.any()):
        return scores.sum() * 0.0
    if int(labels[valid].max()) >= scores.shape[1]:
        raise DatasetMismatch(
            f"Targets name classes up to {int(labels[valid].max())}, and the output has"
            f" {scores.shape[1]}, from 0 on."
        )
    return losses.cross_entropy(scores[valid], labels[valid])


def ctc(output: Tensor, targets: Tensor, axis: int, blank: int, *, probabilities: bool) -> Tensor:
    """Return the CTC loss (connectionist temporal classification, Graves et al. 2006).

    A target sequence that is too long for the output has a loss of 0.

    Args:
        output: scores ``[N, T, C]`` or ``[N, C, T]``.
        targets: classes ``[N, L]``, padded with -1.
        axis: the axis of the classes.
        blank: the blank class.
        probabilities: whether the scores are probabilities.
    """
    scores = output.movedim(axis, -1).float()
    scores = scores.clamp_min(_UNIT).log() if probabilities else scores
    logs = F.log_softmax(scores, dim=-1).movedim(1, 0)
    padding = targets < 0
    order = padding.long().argsort(dim=1, stable=True)
    labels = targets.long().gather(1, order).clamp_min(0)
    lengths = (~padding).sum(1)
    steps = torch.full_like(lengths, logs.shape[0])
    return F.ctc_loss(logs, labels, steps, lengths, blank=blank, zero_infinity=True)


def _of_masks(yardstick: Yardstick, output: Tensor, targets: Tensor) -> Loss:
    if output.numel() == targets.numel():
        return partial(losses.binary_cross_entropy, probabilities=yardstick.probabilities)
    axis = losses.class_axis(output.shape, targets.shape)
    if axis is None or targets.is_floating_point():
        raise DatasetMismatch(
            f"An output {list(output.shape)} cannot be trained against masks {list(targets.shape)}:"
            " name another output in 'evaluate.output', or train with 'loss': 'teacher'."
        )
    probabilities = losses.are_probabilities(output, axis)
    return partial(masked_cross_entropy, axis=axis, probabilities=probabilities)


def _of_sequences(yardstick: Yardstick, output: Tensor, targets: Tensor) -> Loss:
    blank = yardstick.settings.blank
    if output.ndim != 3 or len(output) != len(targets):
        raise DatasetMismatch(
            f"An output {list(output.shape)} cannot be trained for 'cer', which needs scores"
            " [samples, positions, classes]: train with 'loss': 'teacher'."
        )
    axis = losses.probabilities_axis(output)
    probabilities = axis is not None
    if blank is not None:
        axis = 2 if axis is None else axis
        return partial(ctc, axis=axis, blank=blank, probabilities=probabilities)
    axis = losses.class_axis(output.shape, targets.shape)
    if axis is None:
        raise DatasetMismatch(
            f"'cer' without a blank is trained position by position, and the output"
            f" {list(output.shape)} has other positions than the targets {list(targets.shape)}:"
            " name the blank of a network trained with CTC in 'evaluate.blank', or train with"
            " 'loss': 'teacher'."
        )
    return partial(
        masked_cross_entropy, axis=axis, probabilities=losses.are_probabilities(output, axis)
    )
