"""The metric of sequences: ``cer``, the character error rate, of classes of any meaning."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.compression.measure.metrics.meter import Sums, Unfit
from workers.compression.samples.probabilities import probabilities_axis

_LONGEST = 20_000


def edits(output: NDArray[Any], target: NDArray[Any], *, blank: int | None) -> Sums:
    """Return the edit distance from the prediction to the target, and the length of the target.

    Args:
        output: scores ``[1, T, C]``, or ``[1, C, T]`` where they are probabilities over the second
            axis, or classes ``[1, T]``.
        target: classes ``[L]``, padded with -1.
        blank: the blank class of a network trained with CTC (Graves et al. 2006): repeated classes
            are merged, then blanks are removed. None keeps the predicted classes as they are.
    """
    desired = target.reshape(-1)
    desired, predicted = desired[desired >= 0], predicted_sequence(output, blank)
    if max(len(desired), len(predicted)) > _LONGEST:
        raise Unfit(f"a sequence is longer than {_LONGEST}")
    return np.array([distance(predicted, desired), len(desired)], np.float64)


def rate(sums: Sums) -> float:
    """Return edits divided by the length; for a length of 0, the edits."""
    return float(sums[0] / max(sums[1], 1))


def predicted_sequence(output: NDArray[Any], blank: int | None) -> NDArray[np.int64]:
    """Return the sequence of classes that an output predicts, ``[T]``."""
    shape = [size for size in output.shape[1:] if size > 1] if output.ndim > 1 else output.shape
    if output.dtype.kind in "iu" and len(shape) < 2:
        classes = output.reshape(-1).astype(np.int64)
    else:
        classes = _likeliest(output, blank)
    if blank is not None:
        again = np.concatenate([[False], classes[1:] == classes[:-1]])
        classes = classes[~again & (classes != blank)]
    return classes[classes >= 0]


def distance(predicted: NDArray[np.int64], desired: NDArray[np.int64]) -> int:
    """Return the edit distance: the fewest insertions, deletions and replacements.

    The algorithm of Wagner & Fischer (1974), one row at a time. An insertion costs 1 more than the
    element to its left, so after subtracting the position the row is a running minimum.
    """
    places = np.arange(len(desired) + 1)
    row = places
    for index, symbol in enumerate(predicted, start=1):
        replaced = np.minimum(row[1:] + 1, row[:-1] + (desired != symbol))
        row = np.minimum.accumulate(np.concatenate([[index], replaced]) - places) + places
    return int(row[-1])


def _likeliest(output: NDArray[Any], blank: int | None) -> NDArray[np.int64]:
    """Return the class of the highest score at each position."""
    shape = list(output.shape)
    while len(shape) > 2 and 1 in shape:
        shape.remove(1)
    scores = output.reshape(shape)
    if output.dtype.kind != "f" or scores.ndim != 2:
        raise Unfit("it holds neither scores [1, T, C] nor classes [1, T]")
    across = probabilities_axis(scores[None]) == 1
    size = scores.shape[0 if across else 1]
    if blank is not None and blank >= size:
        raise Unfit(f"the blank {blank} lies outside of its {size} classes")
    classes: NDArray[np.int64] = scores.argmax(axis=0 if across else 1)
    return classes
