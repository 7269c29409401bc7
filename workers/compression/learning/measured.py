"""What training minimises for metrics that ask for a loss of their own.

The others (``top1``, ``top5``, ``f1``, ``mse``) take what fits the targets; see ``objectives.py``.
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
    """Return the loss that a metric asks for; None where the targets say what fits.

    Args:
        yardstick: the metric, its output and its parameters.
        output: what the output gives for some samples, ``[N, …]`` of floats.
        targets: theirs.

    Raises:
        DatasetMismatch: nothing trains such an output for the metric.
    """
    match yardstick.metric:
        case "top1" | "top5" | "f1" | "mse":
            return None
        case "mae":
            return partial(losses.absolute_error, scale=losses.variance(targets.float()) ** 0.5)
        case "r2":
            scale = losses.variances(targets.reshape(output.shape))
            return lambda given, wanted: losses.squared_error(given, wanted, scale)
        case "cosine":
            return angle
        case "iou":
            return _of_masks(output, targets)
        case "cer":
            return _of_sequences(yardstick, output, targets)
        case _:
            assert_never(yardstick.metric)


def angle(output: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean of 1 − cosine: of a vector for each sample, or for each of its positions.

    Args:
        output: ``[N, C]``, or of more dimensions with channels as ``samples/channels.py`` has them.
        wanted: with as many elements.
    """
    shape = [size for size in output.shape[1:] if size > 1]
    axes = candidates((1, *shape))
    given, goal = (each.reshape(-1, *shape).float() for each in (output, wanted))
    return 1 - F.cosine_similarity(given, goal, dim=axes[0] if axes else 1, eps=_UNIT).mean()


def classes_of_some(output: Tensor, targets: Tensor, axis: int, *, probabilities: bool) -> Tensor:
    """Return the cross-entropy at the positions that count: targets of -1 and of no class do not.

    Args:
        output: scores, classes along ``axis``.
        targets: ``[N, …]``, a class for each position.
        axis: of the classes.
        probabilities: whether that is what scores are.
    """
    scores = losses.logits(output, axis, probabilities=probabilities)
    wanted = targets.reshape(-1).long()
    keeps = torch.from_numpy(counted(wanted.cpu().numpy(), scores.shape[1])).to(wanted.device)
    if not bool(keeps.any()):
        return scores.sum() * 0.0
    if int(wanted[keeps].max()) >= scores.shape[1]:
        raise DatasetMismatch(
            f"Targets name classes up to {int(wanted[keeps].max())}, and the output has"
            f" {scores.shape[1]}, from 0 on."
        )
    return losses.cross_entropy(scores[keeps], wanted[keeps])


def alignments(
    output: Tensor, targets: Tensor, axis: int, blank: int, *, probabilities: bool
) -> Tensor:
    """Return the loss of all alignments (connectionist temporal classification, Graves 2006).

    A sequence that is too long for the output has no alignment, and no loss.

    Args:
        output: scores ``[N, T, C]`` or ``[N, C, T]``.
        targets: classes ``[N, L]``, padded with -1.
        axis: of the classes.
        blank: the class between answers.
        probabilities: whether that is what scores are.
    """
    scores = output.movedim(axis, -1).float()
    scores = scores.clamp_min(_UNIT).log() if probabilities else scores
    logs = F.log_softmax(scores, dim=-1).movedim(1, 0)
    padding = targets < 0
    order = padding.long().argsort(dim=1, stable=True)
    wanted = targets.long().gather(1, order).clamp_min(0)
    lengths = (~padding).sum(1)
    steps = torch.full_like(lengths, logs.shape[0])
    return F.ctc_loss(logs, wanted, steps, lengths, blank=blank, zero_infinity=True)


def _of_masks(output: Tensor, targets: Tensor) -> Loss:
    if output.numel() == targets.numel():
        sure = bool(((output >= 0) & (output <= 1)).all())
        return partial(losses.binary_cross_entropy, probabilities=sure)
    axis = losses.class_axis(output.shape, targets.shape)
    if axis is None or targets.is_floating_point():
        raise DatasetMismatch(
            f"An output {list(output.shape)} cannot be trained against masks {list(targets.shape)}:"
            " name another output in 'evaluate.output', or train with 'loss': 'teacher'."
        )
    sure = losses.are_probabilities(output, axis)
    return partial(classes_of_some, axis=axis, probabilities=sure)


def _of_sequences(yardstick: Yardstick, output: Tensor, targets: Tensor) -> Loss:
    blank = yardstick.wish.blank
    if output.ndim != 3 or len(output) != len(targets):
        raise DatasetMismatch(
            f"An output {list(output.shape)} cannot be trained for 'cer', which needs scores"
            " [samples, positions, classes]: train with 'loss': 'teacher'."
        )
    axis = losses.probabilities_axis(output)
    sure = axis is not None
    if blank is not None:
        axis = 2 if axis is None else axis
        return partial(alignments, axis=axis, blank=blank, probabilities=sure)
    axis = losses.class_axis(output.shape, targets.shape)
    if axis is None:
        raise DatasetMismatch(
            f"'cer' without a blank is trained position by position, and the output"
            f" {list(output.shape)} has other positions than the targets {list(targets.shape)}:"
            " name the blank of a network trained with CTC in 'evaluate.blank', or train with"
            " 'loss': 'teacher'."
        )
    return partial(classes_of_some, axis=axis, probabilities=losses.are_probabilities(output, axis))
