"""How many steps a training takes: as many as its epochs ask for and its minutes allow."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

_LATEST = 0.02
"""The weight of the latest time in a pace, at least."""
_MOST_RESERVED = 0.1
"""The share of the minutes that is kept for judgements after the last step, at most."""


class Minutes:
    """The time that a training may take, counted from when it was asked for."""

    def __init__(self, minutes: float, clock: Callable[[], float]) -> None:
        """Start to count.

        Args:
            minutes: the budget.
            clock: tells seconds that never go back.
        """
        self.limit = minutes * 60
        self._clock, self._start = clock, clock()
        self.before = 0.0
        """Seconds that were spent by a process that was killed."""

    def now(self) -> float:
        """Return what the clock shows, in seconds."""
        return self._clock()

    @property
    def spent(self) -> float:
        """The seconds that are gone."""
        return self.before + self._clock() - self._start

    @property
    def left(self) -> float:
        """The seconds that remain; less than nothing once time is over."""
        return self.limit - self.spent


@dataclass
class Pace:
    """How long one of many equal pieces of work takes."""

    seconds: float = 0.0
    """The time of one: a mean over the first fifty, then one in which the latest count most."""
    count: int = 0

    def add(self, seconds: float) -> None:
        """Count one more.

        The first one takes longer than the others, because memory is allotted and kernels are
        chosen. It counts only until there is a second one.
        """
        self.count += 1
        weight = max(1 / max(self.count - 1, 1), _LATEST)
        self.seconds += (seconds - self.seconds) * weight


@dataclass
class Plan:
    """Where a training stands, and how many steps it will take.

    The plan is made anew after every step, and shrinks and grows with the time that steps take.
    ``done`` goes from 0 to 1 in equal parts of what is still to do, so that whatever follows it
    (the learning rate, zeros that become more) never jumps.
    """

    most: int
    """Steps of all epochs."""
    epoch_steps: int
    """Steps of one epoch."""
    total: int = 0
    """Steps that are planned in all."""
    step: int = 0
    """Steps that are done."""
    done: float = 0.0
    """The share of the training that is done."""
    steps: Pace = field(default_factory=Pace)
    judgements: Pace = field(default_factory=Pace)

    def __post_init__(self) -> None:
        self.total = self.total or self.most

    @property
    def over(self) -> bool:
        """Whether all planned steps are done."""
        return self.step >= self.total

    @property
    def next_done(self) -> float:
        """The share of the training that will be done after the next step."""
        left = self.total - self.step
        return 1.0 if left <= 1 else self.done + (1 - self.done) / left

    @property
    def epoch(self) -> int:
        """The epoch of the last step that is done, from 1."""
        return math.ceil(self.step / self.epoch_steps)

    @property
    def at_epoch_end(self) -> bool:
        """Whether the last step that is done was the last one of an epoch."""
        return self.step % self.epoch_steps == 0

    def advance(self) -> None:
        """Count a step."""
        self.done = self.next_done
        self.step += 1

    def restart(self) -> None:
        """Begin with the first step again; the time that is gone stays gone."""
        self.step, self.done, self.total = 0, 0.0, self.most

    def fit(self, minutes: Minutes, judgements: int = 1) -> None:
        """Plan as many steps as fit into the time that remains.

        A step costs its own time and its part of a judgement at the end of its epoch. The last step
        may run over the time.

        Args:
            minutes: the budget.
            judgements: how many follow the last step.
        """
        if self.steps.count < 2:
            return
        cost = self.steps.seconds + self.judgements.seconds / self.epoch_steps
        reserved = min(judgements * self.judgements.seconds, _MOST_RESERVED * minutes.limit)
        room = minutes.left - reserved
        left = self.most - self.step
        if cost * left > room:
            left = math.ceil(room / cost) if room > 0 else 0
        self.total = self.step + left
