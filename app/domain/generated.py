"""Samples that are made from the model, for jobs without a dataset: how many, how fast.

The engine makes them (``workers/compression/learning/generation``); a plan says what to expect.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from app.domain.steps import Step

GeneratedData = Literal["generated"]
"""What a job names in ``data``, in place of a dataset."""

GENERATED: GeneratedData = "generated"


@dataclass(frozen=True)
class Effort:
    """How much is done to make samples."""

    way: Literal["pixels", "network"]
    """Samples are trained number by number, or by a network that is trained against the model."""
    samples: int
    """How many are made, at most, those to judge on included."""
    steps: int
    """Of the training: of each batch of samples, or of the network."""
    minutes: float
    """The most time that they may take."""

    def expected_minutes(self, macs: int) -> float:
        """Estimate the time: forward and backward cost about six times the MACs."""
        passes = self.steps * (self.samples if self.way == "pixels" else _BATCH)
        return min(self.minutes, passes * macs * 6 / 2e10 / 60)


_BATCH = 64
CALIBRATE = Effort("pixels", samples=256, steps=150, minutes=3.0)
"""For steps that look at samples, to calibrate say."""
TRAIN = Effort("network", samples=4096, steps=600, minutes=10.0)
"""For steps that train on them."""

LABELS_MISSING = (
    "labels, and samples that are made from the model have none: learn from the original's answers"
    " ('loss': 'teacher', or 'soft_targets' in 'losses'), or name a dataset with targets."
)


def effort_for(steps: Iterable[Step], *, of_trial: bool = False) -> Effort:
    """Return what is done for the steps: training takes more samples, and better ones.

    All trials of a search have the same samples, and some of them train.
    """
    trains = of_trial or any(step.needs.trainable for step in steps)
    return TRAIN if trains else CALIBRATE
