"""The terms of a training's loss: against targets, against a teacher's outputs, or both.

A term reads outputs, the teacher's outputs and the targets of a batch. The loss for an output is
chosen once, from its values for a few samples.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from app.domain.problems import DatasetMismatch, StepFailed
from workers.compression.learning import losses, measured
from workers.compression.measure.metrics.classes import IGNORED
from workers.compression.measure.quality import Yardstick

Outputs = Mapping[str, Tensor]
Term = Callable[[Outputs, Outputs, Tensor | None], Tensor]
"""A loss from outputs, the teacher's outputs (empty without one), and targets ``[samples, …]``."""

TEMPERATURE = 2.0


def labels(name: str, output: Tensor, targets: Tensor, yardstick: Yardstick | None) -> Term:
    """Return the loss of an output against the targets.

    Classes are learned with cross-entropy (binary where the output is one score), in which targets
    of -100 do not count; numbers are learned with the squared error. Some metrics need a loss of
    their own; see ``measured.py``.

    Args:
        name: the name of the output.
        output: its values for some samples, ``[samples, …]``.
        targets: theirs.
        yardstick: the metric that the result is judged by.

    Raises:
        DatasetMismatch: the output does not fit the targets.
    """
    integers = not targets.is_floating_point()
    axis = losses.class_axis(output.shape, targets.shape)
    if yardstick is not None and output.is_floating_point():
        loss = measured.loss_of(yardstick, output, targets)
        if loss is not None:
            return _measured(name, loss)
    if not output.is_floating_point() or (output.numel() != targets.numel() and axis is None):
        raise DatasetMismatch(
            f"Output '{name}' {list(output.shape)} of {output.dtype} cannot be trained against"
            f" targets {list(targets.shape)} of {targets.dtype}: name another output in"
            " 'evaluate.output', or train with 'loss': 'teacher'."
        )
    if integers and axis is not None:
        return _classes(name, axis, losses.are_probabilities(output, axis))
    if integers and bool(((targets == IGNORED) | (targets == 0) | (targets == 1)).all()):
        return _yes_or_no(name, yardstick is not None and yardstick.probabilities)
    if axis is not None:
        raise DatasetMismatch(
            f"Output '{name}' has {output.shape[axis]} numbers for each of the targets, which are"
            " floats: if they are class numbers, store them as integers."
        )
    return _numbers(name, losses.variance(targets.float()))


def imitation(
    outputs: Outputs,
    targets: Tensor | None,
    judged: str,
    temperature: float,
    *,
    with_labels: bool = False,
) -> list[Term]:
    """Return the loss terms against the teacher's outputs: one for each output of floats.

    An output that holds class scores gets softened targets (Hinton et al. 2015): it is the judged
    output and the targets are classes, or its values add up to 1. Any other output gets the
    squared error over the variance of each channel.

    Args:
        outputs: the teacher's outputs for some samples, ``[samples, …]``.
        targets: theirs.
        judged: the name of the output that is compared with the targets.
        temperature: the temperature of softened targets.
        with_labels: whether the targets are learned as well; then samples on which the teacher is
            wrong are not imitated.

    Raises:
        StepFailed: no output holds floats.
    """
    terms = []
    for name, output in outputs.items():
        if not output.is_floating_point() or not output.numel():
            continue
        axis = _scores_axis(output, targets if name == judged else None)
        if axis is None:
            terms.append(_alike(name, losses.variances(output)))
        else:
            sums_to_one = losses.are_probabilities(output, axis)
            class_axis = None if targets is None else losses.class_axis(output.shape, targets.shape)
            checked = with_labels and name == judged and axis == class_axis
            terms.append(_softened(name, axis, temperature, sums_to_one, checked=checked))
    if not terms:
        raise StepFailed(
            "The model has no output of floats that could be imitated, and integers pass no"
            " gradient. Export it with its scores as an output, before the ArgMax or Cast, or use a"
            " step that does not train."
        )
    return terms


def _scores_axis(output: Tensor, targets: Tensor | None) -> int | None:
    """Return the axis of class scores, None where the output is not known to hold any."""
    if targets is not None and not targets.is_floating_point():
        axis = losses.class_axis(output.shape, targets.shape)
        if axis is not None:
            return axis
    return losses.probabilities_axis(output)


def _classes(name: str, axis: int, probabilities: bool) -> Term:
    def term(outputs: Outputs, _teacher: Outputs, targets: Tensor | None) -> Tensor:
        assert targets is not None
        scores = losses.logits(outputs[name], axis, probabilities=probabilities)
        classes = targets.reshape(-1).long()
        counted = classes != IGNORED
        if not bool(counted.all()):
            scores, classes = scores[counted], classes[counted]
        if not len(classes):
            return scores.sum() * 0.0
        low, high = int(classes.min()), int(classes.max())
        if low < 0 or high >= scores.shape[1]:
            left_out = f" Targets of {IGNORED} are left out, and with the metric 'iou' all below 0."
            advice = left_out if low < 0 else ""
            raise DatasetMismatch(
                f"Targets name classes from {low} to {high}, and output '{name}' has"
                f" {scores.shape[1]} classes, from 0 on.{advice}"
            )
        return losses.cross_entropy(scores, classes)

    return term


def _yes_or_no(name: str, probabilities: bool) -> Term:
    def term(outputs: Outputs, _teacher: Outputs, targets: Tensor | None) -> Tensor:
        assert targets is not None
        return losses.binary_cross_entropy(outputs[name], targets, probabilities=probabilities)

    return term


def _measured(name: str, loss: measured.Loss) -> Term:
    def term(outputs: Outputs, _teacher: Outputs, targets: Tensor | None) -> Tensor:
        assert targets is not None
        return loss(outputs[name], targets)

    return term


def _numbers(name: str, scale: float) -> Term:
    def term(outputs: Outputs, _teacher: Outputs, targets: Tensor | None) -> Tensor:
        assert targets is not None
        return losses.squared_error(outputs[name], targets, scale)

    return term


def _alike(name: str, scale: Tensor) -> Term:
    def term(outputs: Outputs, teacher: Outputs, _targets: Tensor | None) -> Tensor:
        if outputs[name].shape != teacher[name].shape or not outputs[name].numel():
            return outputs[name].new_zeros(())  # their number depends on the input
        return losses.squared_error(outputs[name], teacher[name], scale)

    return term


def _softened(
    name: str, axis: int, temperature: float, probabilities: bool, *, checked: bool
) -> Term:
    def term(outputs: Outputs, teacher: Outputs, targets: Tensor | None) -> Tensor:
        scores = losses.logits(outputs[name], axis, probabilities=probabilities)
        teacher_scores = losses.logits(teacher[name], axis, probabilities=probabilities)
        classes = targets.reshape(-1).long() if checked and targets is not None else None
        return losses.soft_targets(scores, teacher_scores, temperature, classes)

    return term


def mean(terms: Sequence[Term]) -> Term:
    """Return the mean of several terms."""

    def term(outputs: Outputs, teacher: Outputs, targets: Tensor | None) -> Tensor:
        return torch.stack([addend(outputs, teacher, targets) for addend in terms]).mean()

    return term
