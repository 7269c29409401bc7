"""The metric of sequences: ``cer``, the character error rate, of classes of any meaning."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.compression.measure.metrics.meter import Sums, Unfit
from workers.compression.samples.probabilities import probabilities_axis

_LONGEST = 20_000


def edits(output: NDArray[Any], target: NDArray[Any], *, blank: int | None) -> Sums:
    """Return the edits that lead from the answer to the target, and the length of the target.

    Args:
        output: scores ``[1, T, C]``, or ``[1, C, T]`` where they are probabilities over the second
            axis, or classes ``[1, T]``.
        target: classes ``[L]``, padded with -1.
        blank: the class that a network trained with CTC (Graves et al. 2006) says between answers:
            repeats of a class are one answer, and blanks are none. None takes answers as they are.
    """
    wanted = target.reshape(-1)
    wanted, given = wanted[wanted >= 0], spoken(output, blank)
    if max(len(wanted), len(given)) > _LONGEST:
        raise Unfit(f"a sequence is longer than {_LONGEST}")
    return np.array([distance(given, wanted), len(wanted)], np.float64)


def rate(sums: Sums) -> float:
    """Return edits over the length; without any length, the edits."""
    return float(sums[0] / max(sums[1], 1))


def spoken(output: NDArray[Any], blank: int | None) -> NDArray[np.int64]:
    """Return the classes that an output answers with, ``[T]``."""
    shape = [size for size in output.shape[1:] if size > 1] if output.ndim > 1 else output.shape
    if output.dtype.kind in "iu" and len(shape) < 2:
        classes = output.reshape(-1).astype(np.int64)
    else:
        classes = _likeliest(output, blank)
    if blank is not None:
        again = np.concatenate([[False], classes[1:] == classes[:-1]])
        classes = classes[~again & (classes != blank)]
    return classes[classes >= 0]


def distance(given: NDArray[np.int64], wanted: NDArray[np.int64]) -> int:
    """Return how few insertions, deletions and replacements lead from one to the other.

    Wagner & Fischer (1974), a row at a time: an insertion costs 1 more than what is left of it, so
    that with the place taken off the least so far is a running minimum.
    """
    places = np.arange(len(wanted) + 1)
    row = places
    for index, one in enumerate(given, start=1):
        replaced = np.minimum(row[1:] + 1, row[:-1] + (wanted != one))
        row = np.minimum.accumulate(np.concatenate([[index], replaced]) - places) + places
    return int(row[-1])


def _likeliest(output: NDArray[Any], blank: int | None) -> NDArray[np.int64]:
    """Return the class of the highest score at each place."""
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
