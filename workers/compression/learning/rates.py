"""Finds a learning rate, where the user names none, by short trainings from the same start."""

from collections.abc import Callable

from app.domain.steps.recover import Optimizer
from workers.compression.learning.optimizers import usual_rate

LossAfter = Callable[[float], float]
"""Returns the loss after a trial at a rate; infinity if the trial diverged."""

_FACTOR = 10**0.5
_MOST_TRIALS = 5
"""The most trials after the first one, in one direction."""
_BEARABLE = 2.0
"""The largest acceptable loss after a trial, relative to the loss before training."""
_BOLD = (10.0, 10**0.5)
"""Factors of the usual rate to try for weights before batch normalisation."""


def best(name: Optimizer, loss_after: LossAfter) -> float:
    """Return the rate with the lowest final loss, from trials as long as the training.

    Args:
        name: the optimizer; the search begins at its usual rate.
        loss_after: returns the loss after a trial at a rate; rates differ by factors of √10.
    """
    rate = usual_rate(name)
    loss = loss_after(rate)
    for factor in (1 / _FACTOR, _FACTOR):
        begin = rate
        for _ in range(_MOST_TRIALS):
            trial_loss = loss_after(rate * factor)
            if not trial_loss < loss:
                break
            rate, loss = rate * factor, trial_loss
        if rate != begin:
            break
    return rate


def largest(name: Optimizer, start: float, loss_after: LossAfter) -> float:
    """Return the largest safe rate, from trials that are shorter than the training.

    A short trial cannot show which rate is best in the end. A larger rate raises the loss first
    and lowers it later, so short trials favour the smallest rate. Therefore the optimizer's usual
    rate is the default. It is raised by factors of √10 while that already lowers the loss of a
    trial, and lowered only while a trial leaves the loss far above the start.

    Args:
        name: the optimizer.
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
    """Return a rate for weights before batch normalisation, up to 10 times the usual one.

    The scale of such weights does not matter, so they tolerate the rate of a training from
    scratch. It raises the loss at first, and ends lower than a small rate does (learning-rate
    rewinding, Renda, Frankle & Carbin 2020). The function returns the largest rate with which a
    trial, which is shorter than the training, ends at or below the loss before training.

    Args:
        name: the optimizer.
        start: the loss before training.
        loss_after: see ``LossAfter``.
    """
    for times in _BOLD:
        rate = usual_rate(name) * times
        if loss_after(rate) <= start:
            return rate
    return largest(name, start, loss_after)
