"""The events of a job, as its event stream shows them.

The engine writes ``EngineEvent`` lines; the worker adds times and ``state`` and stores them.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.domain.jobs import JobStatus

Kind = Literal["state", "progress", "metric", "log"]


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Progress(_Event):
    """How far the job is; never falls."""

    kind: Literal["progress"] = "progress"
    progress: float = Field(ge=0, le=1)
    stage: str = Field(max_length=200)
    eta_seconds: float | None = Field(default=None, ge=0)


class MetricValue(_Event):
    """A figure on the way: a loss, a validation score."""

    kind: Literal["metric"] = "metric"
    step: int = Field(ge=0)
    name: str = Field(max_length=200)
    value: float
    epoch: int | None = None


class Log(_Event):
    """A sentence for the user."""

    kind: Literal["log"] = "log"
    level: Literal["debug", "info", "warning", "error"] = "info"
    message: str = Field(max_length=4000)


class StepFinished(_Event):
    """A step's graph and report are complete on disk; never shown to clients."""

    kind: Literal["step"] = "step"
    index: int = Field(ge=0)


class SamplesMade(_Event):
    """The samples that were made from the model are complete on disk; never shown to clients."""

    kind: Literal["samples"] = "samples"


class State(_Event):
    """The job changed its status; the last one is terminal."""

    kind: Literal["state"] = "state"
    status: JobStatus
    stage: str


EngineEvent = Annotated[
    Progress | MetricValue | Log | StepFinished | SamplesMade, Field(discriminator="kind")
]
"""One line of ``events.jsonl``."""
