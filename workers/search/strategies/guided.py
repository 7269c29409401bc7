"""The default: what an expert would try, corrected by what trials measured.

First come bits, as few as layers bear. Then come *axes*: an axis is one way to make the graph
smaller. Its ratio grows while the bound holds; then it is halved between what held and what missed.
The best bits stand behind each. Trainings are short at first, and what would be the best if it held
is trained longer (successive halving, Jamieson & Talwalkar 2016; Li et al. 2018). Axes that held
are combined, and at last the best pipeline is varied at random. Where the model has a chart of
sensitivity, it says with which ratio an axis begins.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from app.domain.sensitivity import Kind
from app.domain.steps import AnyStep, Distill, LowRank, Prune, Quantize
from app.domain.steps.distill import Derived, Scale
from app.domain.steps.recover import Recover
from workers.search.chart import expected_ratio
from workers.search.choices import near
from workers.search.history import Proposal, Trial
from workers.search.space import Facts, Space, in_order
from workers.search.strategies import chance

LEVELS = (0.5, 0.7, 0.82, 0.9, 0.95)
"""The growing ratios of an axis with training, while nothing has missed the bound."""

ONE_SHOT_LEVELS = (0.2, 0.4, 0.6, 0.75, 0.85)
"""Those without."""

BOTH_LEVELS = (0.8, 0.9, 1.0)
"""Shares of the ratios that held alone, when two axes are combined."""

_BITS = "bits"
"""The axis of openers, which has no ratio."""

NARROW = 0.05
"""An axis ends where what held and what did not are as near as this."""

LEAST = 0.1
"""The ratio of an axis to begin with where a chart says that layers bear nothing."""

FORGIVEN = 10
"""How many times the bound single layers may lose before a training: it wins most of that back."""

EPOCHS = (2, 6, 18, 54)
"""Of trainings: short at first, and the best ones longer each time."""

PROMOTE_EACH = 3
"""Short trainings for one that goes on longer."""

MANY_TRIALS = 10
"""From here on other kinds of bits than those of ``auto`` are tried, too."""

_PAYS = 0.98
"""Of the original's cost: what costs more is noise."""

Build = Callable[[float, Recover | None], list[AnyStep]]


@dataclass(frozen=True)
class Axis:
    """One way to make a graph smaller, by a ratio between 0 and 1."""

    name: str
    build: Build
    least_epochs: int = 0
    """The place in ``EPOCHS`` of its shortest training."""
    levels: tuple[float, ...] | None = None
    """Its growing ratios, where they are others than ``LEVELS``."""
    forms: Kind | None = None
    """The forms of a chart of sensitivity that tell with which ratio to begin."""


def proposals(space: Space, history: Sequence[Trial], rng: random.Random) -> Iterator[Proposal]:
    """Yield pipelines in the order in which they are worth trying."""
    yield from _openers(space, history)
    tail = _tail(space, history)
    axes = [axis for axis in _axes(space.facts, history) if _possible(space, axis)]
    if _promotion_due(history):
        yield from _promotions(space, history)
    for axis in sorted(axes, key=partial(_rank, history)):
        yield from _next_levels(axis, space.facts, history, tail)
    yield from _promotions(space, history)
    yield from _variations(space, history, rng)


def _openers(space: Space, history: Sequence[Trial]) -> Iterator[Proposal]:
    """Yield what needs no ratio: bits, as layers bear them; with training where that is too few."""
    facts = space.facts
    auto = Quantize(prefer="size" if facts.goal == "size" else "speed")
    steps: list[AnyStep] = [auto]
    if facts.trials >= MANY_TRIALS:
        steps += [Quantize(mode="weight_only", unpack="load"), Quantize(mode="float16")]
    told = _cost_of(history, [auto])
    if told is not None and told > _PAYS:
        steps.append(Quantize(mode="qat", recover=_recover(facts, 0)))
    for step in steps:
        if space.suits(step):
            yield Proposal([step], {"axis": _BITS})


def _tail(space: Space, history: Sequence[Trial]) -> list[AnyStep]:
    """Return what stands behind every axis: the bits that cost least, or ``auto``."""
    tried = [trial for trial in history if trial.note.get("axis") == _BITS]
    best = min((trial for trial in tried if trial.holds), key=_cost, default=None)
    if best is not None:
        return best.steps if best.cost < _PAYS else []
    auto = Quantize(prefer="size" if space.facts.goal == "size" else "speed")
    known = any(trial.told for trial in tried)
    return [auto] if space.suits(auto) and not known else []


def _axes(facts: Facts, history: Sequence[Trial]) -> Iterator[Axis]:
    """Yield the ways to make a graph smaller, the likeliest first."""
    of: Literal["macs", "size"] = "size" if facts.goal == "size" else "macs"

    def prune(ratio: float, recover: Recover | None) -> list[AnyStep]:
        return [Prune(ratio=ratio, of=of, recover=recover)]

    def low_rank(ratio: float, recover: Recover | None) -> list[AnyStep]:
        return [LowRank(ratio=ratio, of=of, recover=recover)]

    def zeros(ratio: float, recover: Recover | None) -> list[AnyStep]:
        return [Prune(granularity="unstructured", sparsity=ratio, recover=recover)]

    def narrow(ratio: float, recover: Recover | None) -> list[AnyStep]:
        student = Derived(derive=Scale(width=round((1 - ratio) ** 0.5, 3)))
        return [Distill(student=student, recover=recover or Recover())]

    yield Axis("prune", prune, forms="channels")
    yield Axis("low_rank", low_rank, forms="rank")
    yield Axis("zeros", zeros)
    if facts.trains:
        yield Axis("narrow", narrow, least_epochs=1)
    channels, ranks = (_edges(history, name)[0] for name in ("prune", "low_rank"))
    if channels and ranks:
        yield Axis(
            "both",
            lambda share, recover: [
                *prune(round(share * channels, 3), recover),
                *low_rank(round(share * ranks, 3), recover),
            ],
            levels=BOTH_LEVELS,
        )


def _possible(space: Space, axis: Axis) -> bool:
    return space.fits(axis.build(0.5, _recover(space.facts, 0)))


def _rank(history: Sequence[Trial], axis: Axis) -> float:
    """Return where an axis stands: new ones first, then those that have cost least."""
    tried = _of(history, axis.name)
    if not tried:
        return -1.0
    return min((trial.cost for trial in tried if trial.holds), default=1.0)


def _next_levels(
    axis: Axis, facts: Facts, history: Sequence[Trial], tail: list[AnyStep]
) -> Iterator[Proposal]:
    """Yield the next ratios of an axis: more while all held, else between what held and missed."""
    low, high = _edges(history, axis.name)
    if high is None:
        levels = axis.levels or (LEVELS if facts.trains else ONE_SHOT_LEVELS)
        ratios = [level for level in levels if level > low]
        if low == 0:
            ratios = [*_first_level(axis, facts), *ratios]
    elif high - low > NARROW:
        middle = (low + high) / 2
        ratios = [middle, (low + middle) / 2, (middle + high) / 2]
    else:
        return
    tried = {trial.note["level"] for trial in _of(history, axis.name)}
    for ratio in (round(each, 3) for each in ratios):
        if ratio not in tried:
            steps = axis.build(ratio, _recover(facts, axis.least_epochs))
            yield Proposal(in_order([*steps, *tail]), _note(axis.name, ratio, axis.least_epochs))


def _first_level(axis: Axis, facts: Facts) -> list[float]:
    """Return the ratio that the chart of sensitivity lets expect, if there is one."""
    if facts.chart is None or axis.forms is None:
        return []
    tolerance = facts.bound * (FORGIVEN if facts.trains else 1)
    expected = expected_ratio(facts.chart, axis.forms, facts.goal, tolerance)
    return [min(max(expected, LEAST), LEVELS[-1])]


def _edges(history: Sequence[Trial], axis: str) -> tuple[float, float | None]:
    """Return the largest ratio that held, 0 for none, and the least one above that missed."""
    tried = _of(history, axis)
    held = {trial.note["level"] for trial in tried if trial.holds}
    missed = {trial.note["level"] for trial in tried if trial.told} - held
    low = max(held, default=0.0)
    return low, min((level for level in missed if level > low), default=None)


def _promotion_due(history: Sequence[Trial]) -> bool:
    trained = [trial for trial in history if trial.note.get("axis") not in {None, _BITS}]
    longer = sum(bool(trial.note.get("promoted")) for trial in trained)
    return len(trained) - longer >= PROMOTE_EACH * (longer + 1)


def _promotions(space: Space, history: Sequence[Trial]) -> Iterator[Proposal]:
    """Yield longer trainings of what would be the best if it held, the smallest loss first."""
    if not space.facts.trains:
        return
    least = min((trial.cost for trial in history if trial.holds), default=1.0)
    missed = [
        (trial.drop, at)
        for at, trial in enumerate(history)
        if "level" in trial.note and not trial.holds and trial.cost < least
    ]
    for _, at in sorted(missed):
        note, rung = history[at].note, history[at].note["rung"] + 1
        if rung < len(EPOCHS):
            steps = [_lengthened(step, _recover(space.facts, rung)) for step in history[at].steps]
            yield Proposal(steps, {**note, "rung": rung, "promoted": True})


def _lengthened(step: AnyStep, recover: Recover | None) -> AnyStep:
    trains = not isinstance(step, Quantize) and step.recover is not None
    return step.model_copy(update={"recover": recover}) if trains else step


def _variations(space: Space, history: Sequence[Trial], rng: random.Random) -> Iterator[Proposal]:
    """Yield pipelines that differ a little from the best one; without one, any."""
    best = min((trial for trial in history if trial.holds), key=_cost, default=None)
    if best is None:
        yield from chance.proposals(space, history, rng)
        return
    parent = space.genome(best.steps)
    for steps, _ in space.draws(lambda: near(parent, rng)):
        yield Proposal(steps, {"axis": "variation"})


def _recover(facts: Facts, rung: int) -> Recover | None:
    return Recover(epochs=EPOCHS[rung], minutes=facts.minutes) if facts.trains else None


def _note(axis: str, level: float, rung: int) -> dict[str, Any]:
    return {"axis": axis, "level": level, "rung": rung}


def _of(history: Sequence[Trial], axis: str) -> list[Trial]:
    return [trial for trial in history if trial.note.get("axis") == axis]


def _cost_of(history: Sequence[Trial], steps: list[AnyStep]) -> float | None:
    """Return what a pipeline has cost, 1 where it missed the bound; None until it is told."""
    for trial in history:
        if trial.steps == steps and trial.told:
            return trial.cost if trial.holds else 1.0
    return None


def _cost(trial: Trial) -> float:
    return trial.cost
