"""Losses that training minimises: functions from tensors to one number.

The first dimension of a tensor is the batch; losses are means over it. Class scores come as logits
or as probabilities. The logarithm of a probability is a logit of the same distribution, so that
both are one case: ``log p`` stands in where the graph ends in a softmax.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own convention)

from workers.compression.samples import probabilities
from workers.compression.samples.channels import channel_variances

_LEAST = 1e-12
"""The lower bound of probabilities before their logarithm is taken."""


def class_axis(output: Sequence[int], targets: Sequence[int]) -> int | None:
    """Return the axis of classes in a batch of outputs, None where there is none.

    Args:
        output: the shape ``[N, C]``, ``[N, C, …]`` or ``[N, …, C]``.
        targets: the shape ``[N, …]`` of a class for each position.
    """
    positions = math.prod(targets)
    axes = (axis for axis in (1, len(output) - 1) if 0 < axis < len(output) and output[axis] > 1)
    return next((axis for axis in axes if math.prod(output) == positions * output[axis]), None)


def are_probabilities(output: Tensor, axis: int) -> bool:
    """Return whether the values along an axis are probabilities."""
    return probabilities.are_probabilities(_array(output), axis)


def probabilities_axis(output: Tensor) -> int | None:
    """Return the axis along which an output holds probabilities, None where there is none."""
    return probabilities.probabilities_axis(_array(output))


def _array(output: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = output.detach().float().cpu().numpy()
    return array


def logits(output: Tensor, axis: int, *, probabilities: bool) -> Tensor:
    """Return class scores as logits ``[positions, C]`` in float32.

    Args:
        output: scores of any shape.
        axis: the axis of the classes.
        probabilities: whether the scores are probabilities.
    """
    scores = output.movedim(axis, -1).reshape(-1, output.shape[axis]).float()
    return scores.clamp_min(_LEAST).log() if probabilities else scores


def cross_entropy(scores: Tensor, classes: Tensor) -> Tensor:
    """Return the mean negative log-likelihood of the right classes.

    Args:
        scores: logits ``[positions, C]``.
        classes: ``[positions]``, int64.
    """
    return F.cross_entropy(scores, classes)


def binary_cross_entropy(output: Tensor, classes: Tensor, *, probabilities: bool) -> Tensor:
    """Return the mean negative log-likelihood of binary targets, 1 and 0.

    Args:
        output: one logit, or one probability, for each class.
        classes: as many targets, each 0 or 1; those below 0 do not count.
        probabilities: whether ``output`` holds probabilities.
    """
    values, labels = output.reshape(-1).float(), classes.reshape(-1).float()
    counted = labels >= 0
    if not bool(counted.all()):
        values, labels = values[counted], labels[counted]
    if not len(labels):
        return output.sum() * 0.0
    if probabilities:
        values = torch.logit(values, eps=1e-7)
    return F.binary_cross_entropy_with_logits(values, labels)


def soft_targets(
    scores: Tensor, teacher: Tensor, temperature: float, classes: Tensor | None = None
) -> Tensor:
    """Return the distillation loss between softened class scores (Hinton et al. 2015).

    The Kullback-Leibler divergence of the student from the teacher, both at a temperature, times
    its square, so that gradients keep their size.

    Args:
        scores: the student's logits ``[positions, C]``.
        teacher: the teacher's, of the same shape.
        temperature: divides both.
        classes: ``[positions]``, the targets. Where they are given, positions at which the teacher
            is wrong are left out (conditional teacher-student learning, Meng et al. 2019).
    """
    student = F.log_softmax(scores / temperature, dim=-1)
    teacher_logs = F.log_softmax(teacher / temperature, dim=-1)
    divergence = F.kl_div(student, teacher_logs, reduction="none", log_target=True).sum(-1)
    if classes is not None:
        divergence = divergence * (teacher.argmax(-1) == classes)
    return divergence.mean() * temperature**2


def squared_error(output: Tensor, target: Tensor, scale: float | Tensor = 1.0) -> Tensor:
    """Return the mean squared error over ``scale``; targets that are not finite are left out.

    Args:
        output: of any shape.
        target: the desired values, as many elements.
        scale: the variance of the target makes outputs of any unit comparable; the variance of
            each channel (see ``variances``) makes channels comparable too.
    """
    squares = _difference(output, target).square()
    if isinstance(scale, Tensor):
        return (squares / scale.expand(output.shape).reshape(-1)).mean()
    return squares.mean() / scale


def absolute_error(output: Tensor, target: Tensor, scale: float = 1.0) -> Tensor:
    """Return the mean absolute error over ``scale``; see ``squared_error``."""
    return _difference(output, target).abs().mean() / scale


def variance(values: Tensor) -> float:
    """Return the variance of the finite values; 1 where they are all equal."""
    finite = values.detach().double()
    finite = finite[finite.isfinite()]
    spread = float(finite.var(correction=0)) if finite.numel() else 0.0
    return spread if spread > 1e-12 else 1.0


def variances(values: Tensor) -> Tensor:
    """Return the variance of each channel of a batch, as ``[1, …]`` that spreads over it.

    A channel that hardly varies gets the variance of all channels together.

    Args:
        values: ``[N, …]``; channels are where ``samples/channels.py`` has them.
    """
    return torch.from_numpy(channel_variances(_array(values))).to(values.device)


def _difference(output: Tensor, target: Tensor) -> Tensor:
    flat = target.reshape(-1).float()
    return torch.where(flat.isfinite(), output.reshape(-1).float() - flat, 0.0)


def attention_transfer(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the attention transfer loss of two layers (Zagoruyko & Komodakis 2017).

    The attention map of a layer is the mean of its squared channels at each position, scaled to
    length 1. The loss is the squared distance of the two maps, between 0 and 2, a mean over
    samples.

    Args:
        student: ``[N, C, places]``.
        teacher: ``[N, C', places]``.
    """
    maps = [F.normalize(layer.float().square().mean(1), dim=-1) for layer in (student, teacher)]
    return (maps[0] - maps[1]).square().sum(-1).mean()


def relational(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the distance-wise loss of relational knowledge distillation (Park et al. 2019).

    The distances between all pairs of samples, divided by their mean, are compared by the Huber
    loss. The loss of a single sample is 0.

    Args:
        student: ``[N, features]``.
        teacher: ``[N, features']``.
    """
    if len(student) < 2:
        return student.sum() * 0.0
    distances, teacher_distances = (_distances(points.float()) for points in (student, teacher))
    return F.smooth_l1_loss(distances, teacher_distances)


def _distances(points: Tensor) -> Tensor:
    """Return the distance of each pair of points divided by the mean distance, ``[pairs]``."""
    rows, columns = torch.triu_indices(len(points), len(points), 1, device=points.device)
    squares = (points[rows] - points[columns]).square().sum(-1)
    distances = (squares + _LEAST).sqrt()
    return distances / distances.mean().clamp_min(_LEAST)
