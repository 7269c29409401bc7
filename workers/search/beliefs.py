"""What is believed of pipelines that were not tried: from what is common, put right by trials.

Each axis has a loss at half, a power by which it rises, and a gain. Of a pipeline the losses add
up and what is left of the cost multiplies; training divides the loss by a power of its epochs.
These numbers start where the axes say, with room for error, and are fitted to the trials (the most
likely ones, by Levenberg and Marquardt). Their remaining error is Gaussian around them (Laplace's
approximation; MacKay 1992), so that guesses can be drawn.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers.search.axes import Axis

Floats = NDArray[np.float64]

GUESSES = 64
"""Sets of numbers that are drawn from what is believed."""

_LOSS_ROOM, _RISE_ROOM, _GAIN_ROOM, _SURE_ROOM = 2.0, 0.4, 1.0, 0.15
"""The standard deviations at first: of the logarithms of losses and of their powers, and of the
log-odds of gains, with less room where the amount is the gain by definition."""

_HEALS, _HEALS_ROOM = 0.6, 0.4
"""The power by which epochs of training divide the loss."""
_OFFSET_ROOM = 0.5
"""Bounds by which quality is better or worse whatever is done: held-out samples are few."""

_LOSS_ERROR, _COST_ERROR = 0.3, 0.06
"""The standard deviations of trials around what is fitted: of losses on their scale, of the
logarithm of costs. No network keeps to the model."""

_ALIKE, _AS_LONG = 0.2, 2.0
"""Differences of amounts, and of the logarithm of epochs, of pipelines that are still alike."""
_REPEATED = 0.2
"""The part of a loss's error that the same pipeline would not have again."""

_ROUNDS = 12
_STEP = 1e-4
_TRUST = 3.0
"""The furthest that a number goes in one round, in its room at first."""


@dataclass(frozen=True)
class Pipelines:
    """Pipelines as numbers, one a row."""

    amounts: Floats
    """Of each axis, shape (pipelines, axes), 0 where it is not in the pipeline."""
    epochs: Floats
    """Of training, shape (pipelines,)."""

    @property
    def odds(self) -> Floats:
        """The logarithm of ``amount / (1 - amount)``, 0 for an axis without an amount."""
        within = np.where((self.amounts > 0) & (self.amounts < 1), self.amounts, 0.5)
        return np.asarray(np.log(within / (1 - within)), np.float64)


class Beliefs:
    """What is believed of the axes of one search.

    Args:
        axes: their columns, in this order, are those of ``Pipelines.amounts``.
        bound: of the loss of quality.
    """

    def __init__(self, axes: Sequence[Axis], bound: float) -> None:
        self._count = len(axes)
        self._scale = bound + 0.002
        self.bound = float(np.arcsinh(bound / self._scale))
        """The bound on the scale of losses, which is even near zero and logarithmic far from it."""
        gains = np.array([axis.gain for axis in axes])
        self._mean = np.concatenate(
            [
                np.log([axis.loss for axis in axes]),
                np.log([axis.rise for axis in axes]),
                np.log(gains / (1 - gains)),
                [_HEALS, 0.0],
            ]
        )
        self._room = np.concatenate(
            [
                np.full(self._count, _LOSS_ROOM),
                np.full(self._count, _RISE_ROOM),
                [_SURE_ROOM if axis.sure else _GAIN_ROOM for axis in axes],
                [_HEALS_ROOM, _OFFSET_ROOM],
            ]
        )

    def predict(self, guesses: Floats, pipelines: Pipelines) -> tuple[Floats, Floats]:
        """Return the losses, on their scale, and the logarithms of the costs.

        Args:
            guesses: sets of numbers, shape (guesses, numbers).
            pipelines: of any count.

        Returns:
            Two arrays of shape (guesses, pipelines).
        """
        used = pipelines.amounts > 0
        loss, rise, gain = (
            guesses[:, None, at * self._count : (at + 1) * self._count] for at in range(3)
        )
        heals, offset = guesses[:, -2, None], guesses[:, -1, None]
        logs = np.minimum(loss + np.exp(np.minimum(rise, 3)) * pipelines.odds, 3.0)
        lost = np.where(used, np.exp(logs), 0.0).sum(-1) * (1 + pipelines.epochs) ** -heals
        lost = lost / (1 + lost) / self._scale + offset
        saved = pipelines.amounts / (1 + np.exp(-gain))
        return np.arcsinh(lost), np.log1p(-np.minimum(saved, 0.999)).sum(-1)

    def guesses(
        self, tried: Pipelines, drops: Floats, costs: Floats, rng: np.random.Generator
    ) -> Floats:
        """Return sets of numbers as likely as trials leave them, shape (guesses, numbers).

        Args:
            tried: the pipelines of the trials that were measured.
            drops: their losses of quality, shape (trials,).
            costs: their shares of the original's cost, shape (trials,).
            rng: draws them.
        """
        told = np.arcsinh(drops / self._scale), np.log(np.clip(costs, 1e-3, 10))

        def errors(numbers: Floats) -> Floats:
            losses, logs = self.predict(self._mean + self._room * numbers, tried)
            return np.concatenate(
                [(losses - told[0]) / _LOSS_ERROR, (logs - told[1]) / _COST_ERROR, numbers], axis=1
            )

        numbers, precision = _fitted(errors, len(self._mean))
        spread = np.linalg.inv(np.linalg.cholesky(precision)).T
        drawn = numbers + rng.standard_normal((GUESSES, len(numbers))) @ spread.T
        return np.asarray(self._mean + self._room * drawn, np.float64)

    def left_over(
        self, guesses: Floats, tried: Pipelines, drops: Floats, asked: Pipelines
    ) -> tuple[Floats, Floats]:
        """Return what the fit leaves of losses unexplained, as pipelines that are alike share it.

        That is kriging (a Gaussian process on the errors of the fit; Rasmussen 2006).

        Returns:
            The mean of each guess, shape (guesses, pipelines), and the deviation, (pipelines,).
        """
        if not len(drops):
            return np.zeros((1, 1)), np.full(len(asked.epochs), _LOSS_ERROR)
        errors = np.arcsinh(drops / self._scale) - self.predict(guesses, tried)[0]
        known = likeness(tried, tried) + _REPEATED**2 * np.eye(len(drops))
        weights = np.linalg.solve(known, likeness(tried, asked))
        explained = (weights * likeness(tried, asked)).sum(axis=0)
        deviation = _LOSS_ERROR * np.sqrt(np.maximum(1 - explained, _REPEATED**2))
        return errors @ weights, deviation


def likeness(these: Pipelines, those: Pipelines) -> Floats:
    """Return how alike pipelines are, from 0 to 1: close amounts, and trainings about as long."""
    apart = these.amounts[:, None] - those.amounts[None]
    longer = np.log1p(these.epochs)[:, None] - np.log1p(those.epochs)[None]
    squares = np.square(apart / _ALIKE).sum(-1) + np.square(longer / _AS_LONG)
    return np.asarray(np.exp(-squares / 2), np.float64)


def _fitted(errors: Callable[[Floats], Floats], count: int) -> tuple[Floats, Floats]:
    """Return the numbers with the least squares of errors, and the matrix of their precision.

    Args:
        errors: of sets of numbers, shape (sets, count), returns an array of shape (sets, errors).
        count: of numbers.
    """
    numbers, damping = np.zeros(count), 1e-3
    steps = np.vstack([np.zeros(count), np.eye(count) * _STEP])
    for _ in range(_ROUNDS):
        at = errors(numbers + steps)
        here, slopes = at[0], (at[1:] - at[0]).T / _STEP
        precision = slopes.T @ slopes
        move = np.linalg.solve(precision + damping * np.eye(count), -slopes.T @ here)
        move = np.clip(move, -_TRUST, _TRUST)
        if np.square(errors((numbers + move)[None])).sum() < np.square(here).sum():
            numbers, damping = numbers + move, damping / 3
        else:
            damping *= 10
    at = errors(numbers + steps)
    slopes = (at[1:] - at[0]).T / _STEP
    return numbers, slopes.T @ slopes
