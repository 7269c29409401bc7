"""Validates states of a training, within the time that validations may take."""

from dataclasses import dataclass

from workers.compression.learning.feed import Feed
from workers.compression.learning.judging import Judgement, judge
from workers.compression.learning.plan import Minutes, Pace
from workers.compression.learning.task import Task
from workers.compression.samples.context import Tell

_SHARE = 0.05
"""The share of the time budget that one validation may take."""


@dataclass(frozen=True)
class Validation:
    """Validates the present state of what is trained.

    Attributes:
        task: what is trained.
        feed: how samples reach it.
        minutes: the time budget of the training.
        tell: reports a figure to the user.
    """

    task: Task
    feed: Feed
    minutes: Minutes
    tell: Tell

    def affordable(self, rows: list[int], pace: Pace) -> int:
        """Return how many samples a validation may use to take only a small part of the time.

        Args:
            rows: the rows that are set aside.
            pace: the expected time of a validation on so many samples is added to it.
        """
        run = next(self.feed.parts(rows))
        for _ in range(2):  # the first run is slower
            began = self.minutes.now()
            judge(self.task, self.feed, run)
        seconds = (self.minutes.now() - began) / len(run)
        count, room = len(rows), _SHARE * self.minutes.limit
        if seconds * count > room:
            count = max(len(run), int(room / seconds))
        pace.add(seconds * count)
        return count

    def judged(self, rows: list[int], pace: Pace) -> Judgement:
        """Validate on some rows; the time that it takes is added to ``pace``."""
        began = self.minutes.now()
        judgement = judge(self.task, self.feed, rows)
        pace.add(self.minutes.now() - began)
        return judgement

    def reported(self, rows: list[int], pace: Pace, epoch: int) -> Judgement:
        """Validate on some rows after an epoch, and report the figures to the user."""
        judgement = self.judged(rows, pace)
        self.tell("validation_loss", judgement.loss, epoch)
        if judgement.figure is not None:
            self.tell(f"validation_{judgement.metric}", judgement.figure, epoch)
        return judgement
