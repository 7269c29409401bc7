"""What a model's owner might do next: jobs that can be submitted as they are, the best first."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Minimize = Literal["latency", "size", "macs"]
"""What is to become less."""

Risk = Literal["low", "medium", "high"]
"""How much quality may be lost, the least first; ``high``: nothing wins it back or bounds it, or
finished jobs lost more than is allowed. ``low``: jobs on this model and data lost no more, or
hardly anything can be lost."""


class Expected(BaseModel):
    """What a job is expected to come to; null is what is not known before it runs.

    A figure that ``measured`` does not name is computed from the model's description.
    """

    model_config = ConfigDict(frozen=True)

    size_bytes: int | None
    macs: int | None
    latency_ms: float | None
    """Known where this model was timed before, and jobs of the same steps were measured."""
    minutes: float | None
    measured: list[Literal["size_bytes", "macs", "latency_ms", "minutes"]] = []
    """The figures that rest on what finished jobs measured."""
    jobs: list[str] = Field(default=[], description="Those jobs, the latest first; ten at most.")


class Recommendation(BaseModel):
    """A job that is worth a try."""

    model_config = ConfigDict(frozen=True)

    id: str
    """Names it among the recommendations of any model."""
    title: str
    reason: str
    """Why, with numbers that were measured or computed."""
    job: dict[str, Any] = Field(description="A body for 'POST /v1/jobs', to be sent as it is.")
    estimate: Expected
    risk: Risk
    caution: str
    """What the risk is, in words."""


class Recommendations(BaseModel):
    """The answer of ``GET /v1/models/{id}/recommendations``, best first."""

    items: list[Recommendation]
