"""The learning rate, where the user names none: found by short trainings from the same start."""

from collections.abc import Callable

from app.domain.steps.recover import Optimizer
from workers.compression.learning.optimizers import usual_rate

LossAfter = Callable[[float], float]
"""The loss after a trial at a rate; infinite where it went astray."""

_FACTOR = 10**0.5
_MOST_TRIALS = 5
"""After the first, in one direction."""
_BEARABLE = 2.0
"""Times the loss before training that a trial may leave behind."""
_BOLD = (10.0, 10**0.5)
"""Times the usual rate, for weights that bear a large one."""


def best(name: Optimizer, loss_after: LossAfter) -> float:
    """Return the rate that ends best, by trials that are as long as the training.

    Args:
        name: of the optimizer, at whose usual rate the search begins.
        loss_after: by factors of √10, smaller and larger.
    """
    rate = usual_rate(name)
    loss = loss_after(rate)
    for factor in (1 / _FACTOR, _FACTOR):
        begin = rate
        for _ in range(_MOST_TRIALS):
            other = loss_after(rate * factor)
            if not other < loss:
                break
            rate, loss = rate * factor, other
        if rate != begin:
            break
    return rate


def largest(name: Optimizer, start: float, loss_after: LossAfter) -> float:
    """Return the largest rate that is no danger, by trials that are shorter than the training.

    Such a trial says little about what is best in the end: it is over before a larger rate has
    repaired what its first steps broke, and would always favour the smallest. So the optimizer's
    usual rate is taken, or one that is larger by factors of √10 while that helps already; smaller
    ones only while a trial leaves the loss far above what it was.

    Args:
        name: of the optimizer.
        start: the loss before training.
        loss_after: see ``LossAfter``.
    """
    rate = usual_rate(name)
    loss = loss_after(rate)
    bearable = _BEARABLE * start
    if loss > bearable:
        for _ in range(_MOST_TRIALS):
            rate /= _FACTOR
            if loss_after(rate) <= bearable:
                break
        return rate
    if loss < start:
        for _ in range(_MOST_TRIALS):
            larger = loss_after(rate * _FACTOR)
            if not larger < loss:
                break
            rate, loss = rate * _FACTOR, larger
    return rate


def boldest(name: Optimizer, start: float, loss_after: LossAfter) -> float:
    """Return a rate for weights that normalisation by the batch follows, up to 10 times the usual.

    Such weights have no scale, and bear the rate of a training from the start. It breaks much at
    first, comes back, and gives more in the end than a small one (learning-rate rewinding, Renda,
    Frankle & Carbin 2020). The largest rate is taken that has come back when a trial is over, which
    is shorter than the training: to the loss before training, or below.

    Args:
        name: of the optimizer.
        start: the loss before training.
        loss_after: see ``LossAfter``.
    """
    for times in _BOLD:
        rate = usual_rate(name) * times
        if loss_after(rate) <= start:
            return rate
    return largest(name, start, loss_after)
