"""What the service answers, as typed values.

Sizes are bytes, latencies milliseconds, times are in UTC. A field that a newer service adds is
ignored, so that an older client goes on working.
"""

from datetime import datetime
from typing import Any, Literal

from planish import _answered
from planish._answered import (
    Artifact,
    Attempt,
    Claimed,
    Comparison,
    Conversion,
    Dataset,
    Delivery,
    Device,
    Estimate,
    Fidelity,
    FieldError,
    Front,
    FrontPoint,
    Measurement,
    Measures,
    Model,
    Part,
    Parts,
    Plan,
    Problem,
    Quality,
    Recommendation,
    RegisteredDevice,
    RunInput,
    SearchPoint,
    SearchState,
    Spread,
    Targets,
    Task,
    Tensor,
    TimedFile,
    TimedRun,
    TrialCounts,
    Upload,
    Usage,
    UsageDay,
    Webhook,
    Worst,
)

__all__ = [
    "FINISHED",
    "Artifact",
    "Attempt",
    "Claimed",
    "Comparison",
    "Conversion",
    "Dataset",
    "Delivery",
    "Device",
    "Estimate",
    "Event",
    "Fidelity",
    "FieldError",
    "Front",
    "FrontPoint",
    "Job",
    "Measurement",
    "Measures",
    "Message",
    "Model",
    "Part",
    "Parts",
    "Plan",
    "Problem",
    "Quality",
    "Recommendation",
    "RegisteredDevice",
    "RunInput",
    "SearchPoint",
    "SearchState",
    "Spread",
    "Status",
    "Targets",
    "Task",
    "Tensor",
    "TimedFile",
    "TimedRun",
    "TrialCounts",
    "Upload",
    "Usage",
    "UsageDay",
    "Webhook",
    "Worst",
]

Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]

FINISHED: frozenset[str] = frozenset({"succeeded", "failed", "cancelled"})


class Job(_answered.Job):
    """A compression job; in lists and webhooks without its step reports."""

    @property
    def is_finished(self) -> bool:
        """Whether a terminal state is reached."""
        return self.status in FINISHED


class Message(_answered.Answer):
    """What a webhook is sent; ``data`` is a job without its step reports, or what the test has."""

    type: str
    """Such as ``job.succeeded``."""
    timestamp: datetime
    data: dict[str, Any]

    @property
    def job(self) -> Job | None:
        """The job, where the message tells of one."""
        return Job.model_validate(self.data) if self.type.startswith("job.") else None


class Event(_answered.Answer):
    """One event of a job's stream; ``number`` counts up within the job."""

    number: int
    kind: str
    """``state``, ``progress``, ``metric`` or ``log``."""
    data: dict[str, Any]

    @property
    def ends_the_job(self) -> bool:
        """Whether it tells of a terminal state."""
        return self.kind == "state" and self.data.get("status") in FINISHED
