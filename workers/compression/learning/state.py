"""The progress of a training: everything of its checkpoint but the tensors."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from workers.compression.learning.choice import Choice
from workers.compression.learning.judging import Judgement
from workers.compression.learning.plan import Pace, Plan


@dataclass
class State:
    """The progress of a training."""

    plan: Plan
    rate: float = 0.0
    """The peak of the learning rate."""
    slowed: bool = False
    """Whether the training diverged once and was restarted at a lower rate."""
    start: Judgement | None = None
    """The validation of the state before training; None where that state may not be kept."""
    choice: Choice = field(default_factory=Choice)
    """The choice among the trained states."""
    best: Judgement | None = None
    """The validation of the best trained state."""
    judged_on: int = 0
    """The number of validation samples."""
    losses: float = 0.0
    """The sum of the losses of the steps since the last epoch ended."""
    summed: int = 0
    """The number of steps in that sum."""

    @property
    def last_validations(self) -> int:
        """The largest number of validations after the last step: its own, and one to compare."""
        return 1 if self.start is None else 2


def read(facts: Mapping[str, Any]) -> State:
    """Return the progress that a checkpoint holds, as ``dataclasses.asdict`` wrote it."""
    plan = facts["plan"]
    paces = {name: Pace(**plan[name]) for name in ("steps", "judgements")}
    parts = {
        "plan": Plan(**{**plan, **paces}),
        "choice": Choice(**facts["choice"]),
        **{name: facts[name] and Judgement(**facts[name]) for name in ("start", "best")},
    }
    return State(**{**facts, **parts})
