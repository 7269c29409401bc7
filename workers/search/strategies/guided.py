"""The default: the pipeline from which most is expected, by what is believed of the model.

What is believed (``beliefs.py``) starts from what is common, or from the model's chart of
sensitivity where that was measured, and is put right by each trial. Of a few hundred pipelines,
over all methods at once, the one comes next whose *expected improvement* (Mockus 1978; Jones 1998)
is the greatest: the mean, over guesses of what the model bears, of how much less it costs than the
best so far where it holds. It is divided by the share of the budget that its training takes, so
that short trainings come first where time is scarce, and long ones where they win back what nearly
held. Where the best is well known, most is expected of what is not: so the search goes on.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np

from app.domain.steps import AnyStep
from app.domain.steps.recover import Recover, training_minutes
from workers.search.axes import RATIOS, Axis, axes_of, bits_of, widths_of
from workers.search.beliefs import Beliefs, Floats, Pipelines, likeness
from workers.search.history import Proposal, Trial
from workers.search.space import Facts, Space, bounded, in_order, trainings

Strategy = Callable[[Space, Sequence[Trial], random.Random], Iterator[Proposal]]

EPOCHS = (2, 6, 18, 54)
"""Of trainings."""

_CANDIDATES = 200
_NEAR = 0.4
"""The share of candidates that are near the best pipeline so far."""
_USED = 0.4
"""How likely an axis is in a candidate."""
_ANY_MINUTES = 7 * 24 * 60.0
_AS_MUCH, _LEAST, _SURE = 0.9, 1e-9, 0.98
"""The share of an amount that is as much, an amount at all, and the most that is suspected."""
_OFFERED = 40
"""Candidates that are offered, the most promising first."""


def over(
    axes_of: Callable[[Facts], Iterator[Axis]],
    prepared: Callable[[Facts, Sequence[AnyStep]], list[AnyStep]] = lambda _, steps: [*steps],
) -> Strategy:
    """Return the strategy that tries pipelines of some axes alone.

    Args:
        axes_of: returns the axes of a search.
        prepared: returns a pipeline with what has to come before its steps.
    """

    def proposals(space: Space, history: Sequence[Trial], rng: random.Random) -> Iterator[Proposal]:
        facts = space.facts
        recover = _recover(facts, EPOCHS[0])
        usable = [
            each
            for each in axes_of(facts)
            if space.fits(prepared(facts, [each.build(0.5, recover)]))
        ]
        for proposal in _proposals(usable, space, history, rng):
            yield replace(proposal, steps=prepared(facts, proposal.steps))

    return proposals


def _proposals(
    axes: Sequence[Axis], space: Space, history: Sequence[Trial], rng: random.Random
) -> Iterator[Proposal]:
    """Yield pipelines in the order in which they are worth trying."""
    if not axes:
        return
    if axes[0].name == "auto" and not history:
        yield _proposal(space.facts, axes, _only(0, len(axes)), 0.0)
    drawn = np.random.default_rng(rng.getrandbits(32))
    trials = [trial for trial in history if "amounts" in trial.note]
    candidates = _candidates(space.facts, axes, trials, drawn)
    worth = _expected_improvement(space.facts, axes, trials, candidates, drawn)
    for at in islice(np.argsort(-worth, kind="stable"), _OFFERED):
        row, epochs = candidates.amounts[at], float(candidates.epochs[at])
        yield _proposal(space.facts, axes, row, epochs)


def _candidates(
    facts: Facts, axes: Sequence[Axis], trials: Sequence[Trial], rng: np.random.Generator
) -> Pipelines:
    """Draw pipelines: some anywhere, some near the best so far."""
    shape = (_CANDIDATES, len(axes))
    whole, bits = (np.array([getattr(axis, of) for axis in axes]) for of in ("whole", "bits"))
    most = np.array([axis.most for axis in axes])
    amounts = np.where(whole, 1.0, rng.uniform(RATIOS[0], most, shape))
    used = rng.random(shape) < _USED
    epochs = rng.choice(np.array(EPOCHS, np.float64), _CANDIDATES)
    best = min(
        (trial for trial in trials if trial.holds), key=lambda trial: trial.cost, default=None
    )
    if best is not None:
        near = rng.random(_CANDIDATES) < _NEAR
        row = _row(axes, best)
        kept = rng.random(shape) < 1 - 1 / len(axes)
        moved = np.clip(1 - (1 - row) * np.exp(0.3 * rng.standard_normal(shape)), RATIOS[0], most)
        amounts = np.where(near[:, None] & (row > 0) & ~whole, moved, amounts)
        used = np.where(near[:, None] & kept, row > 0, used)
    one = np.argmax(np.where(bits & used, rng.random(shape), 0), axis=1)
    used &= ~bits | (np.arange(len(axes)) == one[:, None])
    used[~used.any(axis=1), rng.integers(len(axes))] = True
    trains = facts.trains & (used & np.array([axis.trains for axis in axes])).any(axis=1)
    rounded = np.asarray(np.where(used, np.round(amounts, 3), 0.0), np.float64)
    return Pipelines(rounded, np.where(trains, epochs, 0.0))


def _expected_improvement(
    facts: Facts,
    axes: Sequence[Axis],
    trials: Sequence[Trial],
    candidates: Pipelines,
    rng: np.random.Generator,
) -> Floats:
    """Return how much less each candidate is expected to cost, for what it takes of the budget.

    Of candidates like one that still runs less is expected (Gonzalez 2016).

    Returns:
        The decrease of the logarithm of the cost, shape (candidates,).
    """
    beliefs = Beliefs(axes, facts.bound)
    measured = [trial for trial in trials if trial.outcome is not None and trial.drop < np.inf]
    tried = _pipelines(axes, measured)
    drops, costs = (np.array([getattr(t, of) for t in measured]) for of in ("drop", "cost"))
    guesses = beliefs.guesses(tried, drops, costs, rng)
    losses, logs = beliefs.predict(guesses, candidates)
    best = min((trial.cost for trial in measured if trial.holds), default=1.0)
    better = np.maximum(np.log(min(best, 1.0)) - logs, 0.0)
    mean, deviation = beliefs.left_over(guesses, tried, drops, candidates)
    losses = losses + mean + deviation * rng.standard_normal(losses.shape)
    gain = (better * (losses <= beliefs.bound)).mean(axis=0)
    running = _pipelines(axes, [trial for trial in trials if not trial.known])
    fresh = 1 - likeness(running, candidates).max(axis=0, initial=0)
    broken = _pipelines(axes, [trial for trial in trials if trial.known and trial.drop == np.inf])
    works = _works(tried, broken, candidates)
    return np.asarray(gain * fresh * works / _price(facts, axes, candidates, trials), np.float64)


def _works(tried: Pipelines, broken: Pipelines, candidates: Pipelines) -> Floats:
    """Return how likely candidates have figures at all, beside trials that had none.

    A method has its limits. Of a trial without figures each axis is suspected that was never
    measured at as much, and all of them alike.
    """
    measured = tried.amounts.max(axis=0, initial=0)
    suspects = (broken.amounts > measured).astype(float)
    shares = suspects / np.maximum(suspects.sum(axis=1, keepdims=True), 1)
    as_much = candidates.amounts[:, None] >= np.maximum(_AS_MUCH * broken.amounts, _LEAST)[None]
    blame = np.minimum((as_much * shares).sum(axis=1), _SURE)
    alike = likeness(broken, candidates).max(axis=0, initial=0)
    return np.asarray((1 - alike) * (1 - blame).prod(axis=1), np.float64)


def _pipelines(axes: Sequence[Axis], trials: Sequence[Trial]) -> Pipelines:
    return Pipelines(
        np.array([_row(axes, trial) for trial in trials], np.float64).reshape(-1, len(axes)),
        np.array([trial.note["epochs"] for trial in trials], np.float64),
    )


def _price(
    facts: Facts, axes: Sequence[Axis], candidates: Pipelines, trials: Sequence[Trial]
) -> Floats:
    """Return the shares of the budget that trials take, in even shares: 1 where time is no matter.

    Trainings of a machine that is slower than expected are measured by those that were done.
    """
    paces = [
        trial.outcome.seconds / 60 / expected
        for trial in trials
        if trial.outcome and trial.outcome.seconds > 0
        if (expected := trainings(trial.steps) * _minutes(facts, trial.note["epochs"])) > 0
    ]
    pace = float(np.median(paces)) if paces else 1.0
    taken = {epochs: pace * _minutes(facts, epochs) / facts.share for epochs in (0.0, *EPOCHS)}
    train = np.array([axis.trains for axis in axes])
    times = (candidates.amounts[:, train] > 0).sum(axis=1)
    shares = times * np.array([taken[epochs] for epochs in candidates.epochs])
    return np.asarray(np.maximum(shares, 1.0), np.float64)


def _minutes(facts: Facts, epochs: float) -> float:
    """Return how long a training takes that nothing cuts short."""
    if epochs < 1:
        return 0.0
    whole = Recover(epochs=int(epochs), minutes=_ANY_MINUTES)
    return training_minutes(whole, facts.outlook.macs, facts.outlook.samples)


def _proposal(facts: Facts, axes: Sequence[Axis], row: Floats, epochs: float) -> Proposal:
    recover = _recover(facts, epochs)
    amounts = {axis.name: float(amount) for axis, amount in zip(axes, row, strict=True) if amount}
    steps = [axis.build(amounts[axis.name], recover) for axis in axes if axis.name in amounts]
    kept = bounded(in_order(steps), facts.minutes)
    return Proposal(kept, {"amounts": amounts, "epochs": epochs})


def _row(axes: Sequence[Axis], trial: Trial) -> Floats:
    amounts = trial.note["amounts"]
    return np.array([amounts.get(axis.name, 0.0) for axis in axes])


def _only(at: int, count: int) -> Floats:
    row = np.zeros(count)
    row[at] = 1.0
    return row


def _recover(facts: Facts, epochs: float) -> Recover | None:
    if not facts.trains or epochs < 1:
        return None
    return Recover(epochs=int(epochs), minutes=facts.minutes)


proposals = over(axes_of)
"""Over all methods at once."""

amc = over(widths_of)
"""AMC (He 2018): shares of channels that episodes learn within a step, and bits."""

haq = over(bits_of)
"""HAQ (Wang 2019): bits of weights that episodes learn within a step, and channels before them."""
