"""The samples that graphs are judged on."""

from dataclasses import dataclass
from pathlib import Path

from app.domain.reports import Generated, Split
from workers.compression.samples.context import Samples


@dataclass(frozen=True)
class EvaluationSet:
    """The samples that graphs are judged on, and how they are measured."""

    samples: Samples
    """Held-out samples, or synthetic ones without targets."""
    synthetic: bool
    """Whether they are no real data: random inputs, or made from the model."""
    threads: int
    dataset: str | None = None
    """The id of the dataset of the samples; None where they are a part of the job's dataset."""
    shared: int = 0
    """How many samples of that dataset are left out because the job's dataset holds them too."""
    metric: Path | None = None
    """The graph that computes the metric, where ``evaluate.metric`` names a model."""
    generated: Generated | None = None
    """The samples that steps use, where they are made from the model."""

    @property
    def split(self) -> Split:
        """The kind of the samples."""
        if not self.synthetic:
            return "held_out"
        return "synthetic" if self.generated is None else "generated"
