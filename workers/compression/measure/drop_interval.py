"""The interval that a drop of quality lies in, as other samples would give another drop."""

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from app.domain.metrics import Kind, more_is_better
from app.domain.reports import DropInterval

_TWO_SIDED = 0.975
"""95 % lie between this quantile and its mirror image."""

_FEWEST = 5
"""Samples of several answers each, from which on an interval is told."""

Counts = NDArray[np.float64]
"""``[samples, 2]``: what a metric counted in each sample, and out of how many."""


def drop_interval(kind: Kind, before: Counts, after: Counts) -> DropInterval | None:
    """Return the interval that the drop of a counting metric lies in, with 95 % confidence.

    Samples are paired: where both graphs answer alike, nothing of the drop is left to chance. Of
    samples with one answer each it is the interval of Agresti & Min, "Simple improved confidence
    intervals for comparing matched proportions", 2005, which holds for few samples, and where no
    answer changed. Of samples with several, which are alike within a sample, it is that of a ratio
    of means over samples (Cochran, "Sampling Techniques", 1977, section 2.11), with Student's t.

    Args:
        kind: of the metric.
        before: counts of the original.
        after: counts of the result, on the same samples.

    Returns:
        None where the samples are too few to tell, or tell of no difference at all.
    """
    lost = (before - after if more_is_better(kind) else after - before)[:, 0]
    answers = before[:, 1]
    lost, answers = lost[answers > 0], answers[answers > 0]
    if not len(answers):
        return None
    if (answers == 1).all() and (np.abs(lost) <= 1).all():
        count = len(lost) + 2
        drop = lost.sum() / count
        variance = ((np.square(lost).sum() + 1) / count - drop**2) / count
        return _around(kind, drop, np.sqrt(variance) * NormalDist().inv_cdf(_TWO_SIDED))
    drop = lost.sum() / answers.sum()
    residuals = lost - drop * answers
    if len(lost) < _FEWEST or not residuals.any():
        return None
    variance = np.square(residuals).sum() * len(lost) / (len(lost) - 1) / answers.sum() ** 2
    return _around(kind, drop, np.sqrt(variance) * _student(len(lost) - 1))


def _around(kind: Kind, middle: float, half: float) -> DropInterval:
    """Return an interval; no more than all answers of a share can be lost or gained."""
    most = 1.0 if kind == "share" else math.inf
    low, high = np.clip([middle - half, middle + half], -most, most).tolist()
    return DropInterval(low=round(low, 6), high=round(high, 6))


def _student(degrees: int) -> float:
    """Return the quantile of Student's t, by its expansion around the normal distribution's.

    Source: Abramowitz & Stegun, "Handbook of Mathematical Functions", 1964, 26.7.5.
    """
    z = NormalDist().inv_cdf(_TWO_SIDED)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return float(sum(term / degrees**power for power, term in enumerate(terms)))
