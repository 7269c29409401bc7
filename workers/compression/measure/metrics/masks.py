"""The metric of masks: ``iou``, intersection over union (the Jaccard index)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.compression.measure.metrics.classes import aligned, counts
from workers.compression.measure.metrics.meter import Sums, Unfit, other_size
from workers.compression.samples.channels import by_channel, candidates

THRESHOLD = 0.5
_VOID = 255
"""The class that datasets of segmentation give to pixels of no class."""


def overlaps(output: NDArray[Any], target: NDArray[Any], *, threshold: float | None) -> Sums:
    """Return hits, predictions and targets of each class, ``[classes, 3]``.

    An output with one number for each target is a mask: values above the threshold are in it, and
    each channel (of ``[1, C]`` and of pictures) is a class. Any other output holds class scores,
    or classes, for targets that are classes. Targets below 0 are ignored, and so is 255 where it
    is no class.
    """
    both_integers = output.dtype.kind in "iu" and target.dtype.kind in "iu"
    if output.size == target.size and (threshold is not None or not both_integers):
        return _masks(output, target, THRESHOLD if threshold is None else threshold)
    if target.dtype.kind not in "iub":
        raise other_size(output, target)
    scores, classes = aligned(output, target)
    if scores.ndim > 1:
        predictions, size = scores.argmax(axis=1).astype(np.int64), scores.shape[1]
    else:
        predictions, size = scores.astype(np.int64), _VOID
    valid = counted(classes, size)
    if scores.ndim > 1 and classes[valid].max(initial=0) >= size:
        raise Unfit(f"a target lies outside of its {size} classes")
    return counts(predictions[valid], classes[valid])


def counted(classes: NDArray[np.int64], size: int) -> NDArray[np.bool_]:
    """Return which targets are classes: none below 0, and not 255 where it is no class.

    Args:
        classes: the targets, of any shape.
        size: the number of classes.
    """
    belongs: NDArray[np.bool_] = (classes >= 0) & ~((classes == _VOID) & (size <= _VOID))
    return belongs


def jaccard(sums: Sums) -> float:
    """Return the mean of hits / (predictions + targets - hits) over the classes that occur."""
    if sums.ndim < 2:
        return 0.0
    hits, predictions, targets = sums.T
    union = predictions + targets - hits
    return float(np.mean(hits[union > 0] / union[union > 0])) if (union > 0).any() else 1.0


def _masks(output: NDArray[Any], target: NDArray[Any], threshold: float) -> Sums:
    if target.size and target.max() > 1:
        raise Unfit("a mask holds 0 and 1, and there is one number for each target")
    axes = candidates(output.shape) if output.ndim != 3 else ()
    axis = axes[0] if axes else None
    desired = by_channel(target.reshape(output.shape), axis)
    predicted, true = by_channel(output, axis) > threshold, desired > THRESHOLD
    predicted = predicted & (desired >= 0)
    return np.stack([(predicted & true).sum(1), predicted.sum(1), true.sum(1)], axis=1).astype(
        float
    )
