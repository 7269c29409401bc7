"""How many steps a training takes: as many as its epochs ask for and its minutes allow."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

_LATEST = 0.02
"""The least weight of the latest time in a pace."""
_MOST_RESERVED = 0.1
"""The largest share of the time budget that is reserved for validations after the last step."""


class Minutes:
    """The time budget of a training; it runs from the moment this object is made."""

    def __init__(self, minutes: float, clock: Callable[[], float]) -> None:
        """Start the clock.

        Args:
            minutes: the budget.
            clock: a monotonic clock, in seconds.
        """
        self.limit = minutes * 60
        self._clock, self._start = clock, clock()
        self.before = 0.0
        """Seconds that were spent by a process that was killed."""

    def now(self) -> float:
        """Return the time on the clock, in seconds; only differences mean anything."""
        return self._clock()

    @property
    def spent(self) -> float:
        """The seconds that have passed."""
        return self.before + self._clock() - self._start

    @property
    def left(self) -> float:
        """The seconds that remain; negative once the time is up."""
        return self.limit - self.spent

    @property
    def share(self) -> float:
        """The share of the budget that is spent, at most 1."""
        return min(self.spent / self.limit, 1.0)


@dataclass
class Pace:
    """The mean duration of many equal pieces of work, such as steps."""

    seconds: float = 0.0
    """Seconds of one piece: a plain mean over the first fifty, then a moving average."""
    count: int = 0

    def add(self, seconds: float) -> None:
        """Add the duration of one more piece.

        The first piece takes longer than the others, because memory is allotted and kernels are
        chosen. It counts only until there is a second one.
        """
        self.count += 1
        weight = max(1 / max(self.count - 1, 1), _LATEST)
        self.seconds += (seconds - self.seconds) * weight


@dataclass
class Plan:
    """The progress of a training, and the number of steps that it will take.

    The plan is revised after every step: the total shrinks or grows with the measured time of a
    step. ``done`` goes from 0 to 1 in equal parts of what is still to do, so that whatever depends
    on it (the learning rate, a growing sparsity) never jumps.
    """

    most: int
    """The number of steps of all epochs."""
    epoch_steps: int
    """The number of steps of one epoch."""
    total: int = 0
    """The planned number of steps."""
    step: int = 0
    """The number of finished steps."""
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
        """Begin with the first step again; the time that has passed is not given back."""
        self.step, self.done, self.total = 0, 0.0, self.most

    def fit(self, minutes: Minutes, judgements: int = 1) -> None:
        """Plan as many steps as fit into the time that remains.

        A step costs its own time and its share of the validation at the end of its epoch. The last
        step may end after the time is up.

        Args:
            minutes: the budget.
            judgements: the number of validations after the last step.
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
