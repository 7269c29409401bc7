"""What a strategy knows: the trials that were asked for, and what they came to."""

import math
from dataclasses import dataclass, field
from typing import Any

from app.domain.searches import Outcome
from app.domain.steps import AnyStep

_MISSED = 1.0
"""The merit of a trial that is out of bounds begins here: worse than the original's cost."""


@dataclass(frozen=True)
class Proposal:
    """A pipeline to try, and what its strategy wants to know of it later."""

    steps: list[AnyStep]
    note: dict[str, Any] = field(default_factory=dict)
    """JSON, stored with the trial."""


@dataclass(frozen=True)
class Trial:
    """A pipeline that was asked for; ``outcome`` is None while it is not known."""

    steps: list[AnyStep]
    note: dict[str, Any] = field(default_factory=dict)
    outcome: Outcome | None = None

    @property
    def known(self) -> bool:
        """Whether the strategy may know what it came to."""
        return self.outcome is not None

    @property
    def holds(self) -> bool:
        """Whether it has figures, and the loss is within the bound."""
        return self.outcome is not None and self.outcome.holds

    @property
    def cost(self) -> float:
        """The cost as a share of the original's, infinite where it is not known."""
        if self.outcome is None or self.outcome.cost is None:
            return math.inf
        return self.outcome.cost

    @property
    def drop(self) -> float:
        """The loss of quality, infinite where it is not known."""
        if self.outcome is None or self.outcome.drop is None:
            return math.inf
        return self.outcome.drop


def merit(trial: Trial, bound: float) -> float:
    """Return one figure to minimise: the cost within the bound, else 1 and the excess loss, to 3.

    Args:
        trial: whose outcome is known; one without figures is worst.
        bound: of the loss of quality.
    """
    if trial.holds:
        return trial.cost
    return _MISSED + min(trial.drop - bound, 1.0) + min(trial.cost, 1.0)
