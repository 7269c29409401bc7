"""A search for steps: what it minimises, what it has found so far, and what of that is best."""

from collections.abc import Iterable, Mapping
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from app.domain import metrics
from app.domain.reports import Fidelity, Quality
from app.domain.steps import AnyStep

Goal = Literal["latency", "size", "macs"]
"""What is minimised."""

StrategyName = Literal[
    "guided", "random", "evolution", "tpe", "nsga2", "amc", "haq", "halving", "once_for_all"
]
"""How the next trial is chosen."""

STRATEGIES: Mapping[StrategyName, str] = {
    "guided": "By what is expected of each (guided)",
    "random": "By chance (random)",
    "evolution": "By changing the best ones (regularised evolution)",
    "tpe": "By where good ones were found (TPE)",
    "nsga2": "By crossing the best ones (NSGA-II)",
    "amc": "By learning the widths of layers (AMC)",
    "haq": "By learning the bits of layers (HAQ)",
    "halving": "By short trainings, then longer ones for the best (successive halving)",
    "once_for_all": "By one training that holds many networks (Once-for-all)",
}
"""The same for people."""

LEARNING: tuple[StrategyName, ...] = ("amc", "haq", "once_for_all")
"""The strategies whose steps learn on samples."""

ORIGINAL = "original"
"""The id of the point that is the model as it was uploaded."""

DEFAULT_DROP = 0.01
"""The loss of quality that a search allows where its objective names none."""


EndedBy = Literal["trials", "minutes", "exhausted", "cancelled"]
"""What ended a search: all trials of its budget were made, its minutes were over, its strategy had
nothing new to try, or somebody cancelled it."""


class Outcome(BaseModel):
    """What a trial came to: its figures, or why there are none."""

    model_config = ConfigDict(frozen=True)

    seconds: float
    """What its steps took to make, whichever job has made them. What was lost with a worker does
    not count."""
    problem: str | None = None
    """The type of the problem of a trial without figures."""
    cost: float | None = None
    """What is minimised, as a share of the original's: 0.5 is half. Null without figures."""
    drop: float | None = None
    """The loss of quality, as ``max_quality_drop`` bounds it."""
    latency_ms: float | None = None
    """On the device that is the search's target; null where no device timed it."""
    original_ms: float | None = None
    """The original's, beside it."""
    device: str | None = None
    """The device whose times the cost is of; null where they are the worker's."""
    holds: bool = False
    """Whether the loss is within the bound."""
    pays: bool = False
    """Whether it holds, and costs less than the original beyond doubt."""


class SearchPoint(BaseModel):
    """A pipeline that was tried, and what it gives; or the original, without steps."""

    model_config = ConfigDict(frozen=True)

    id: str
    trial: int | None
    """The number of the trial, from 1; null for the original."""
    steps: list[AnyStep]
    size_bytes: int
    latency_ms: float | None
    """On the device where ``device`` names one, else on the worker."""
    macs: int
    quality: Quality | None
    fidelity: Fidelity | None
    """Against the original; null for the original itself."""
    cost: float
    """What is minimised, as a share of the original's. Latencies of one trial are compared with the
    original's in the same trial, so that trials on unlike machines may be compared."""
    drop: float
    """The loss of quality, as ``max_quality_drop`` bounds it; negative where quality rose."""
    holds: bool
    """Whether the loss is within the bound."""
    ruined: bool = False
    """Whether it does not do what the original does: less than half of it is left."""
    device: str | None = None
    """The device of the tenant whose times count; null where they are the worker's."""

    @property
    def lost(self) -> str | None:
        """The loss of quality in words; None where none is lost."""
        return self._in_words(self.drop) if self.drop > 0 else None

    @property
    def gained(self) -> str | None:
        """What quality has gained, in words; None where it has not."""
        return self._in_words(-self.drop) if self.drop < 0 else None

    def _in_words(self, amount: float) -> str:
        return metrics.amount(self.quality.kind if self.quality else "share", amount)

    @property
    def rank(self) -> tuple[bool, float, int]:
        """What the best point has the least of: times of a search's device beat a worker's.

        Of points that cost the same, the one that was asked for first is the best.
        """
        return self.device is None, self.cost, self.trial or 0


class TrialCounts(BaseModel):
    """How many trials a search has made, and how many it may still make."""

    model_config = ConfigDict(frozen=True)

    budget: int
    done: int
    failed: int
    """Of those done, the ones that gave no figures."""
    running: int
    """Queued or running."""
    left: int


class SearchState(BaseModel):
    """How far a search is."""

    model_config = ConfigDict(frozen=True)

    strategy: StrategyName
    trials: TrialCounts
    best: SearchPoint | None = None
    """The point within the bound that costs least so far; null while that is the original."""
    ended_by: EndedBy | None = None
    """What ended it: all trials of the budget were made, the minutes were over, the strategy had
    nothing new to try, or it was cancelled. Null while it goes on, and where it could not go on:
    then the job's ``problem`` says why."""

    @property
    def over(self) -> "SearchState":
        """It, once its job has ended: then nothing runs, and what was cut off was not made."""
        left = self.trials.budget - self.trials.done
        counts = self.trials.model_copy(update={"running": 0, "left": left})
        return self.model_copy(update={"trials": counts})


def begun(strategy: StrategyName, trials: int) -> SearchState:
    """Return how far a search is that has just been asked for, with a budget of trials."""
    counts = TrialCounts(budget=trials, done=0, failed=0, running=0, left=trials)
    return SearchState(strategy=strategy, trials=counts)


Tried = TypeVar("Tried", bound=SearchPoint)


def front(points: Iterable[Tried]) -> list[Tried]:
    """Return the points that no other is at least as good as in cost and quality, least cost first.

    Of points that are equal in both, the first one stays. One that is ruined is none of them,
    unless the bound allows as much.
    """
    kept: list[Tried] = []
    of_use = (point for point in points if point.holds or not point.ruined)
    for point in sorted(of_use, key=lambda point: (point.cost, point.drop)):
        if not kept or point.drop < kept[-1].drop:
            kept.append(point)
    return kept
