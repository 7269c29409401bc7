"""A compression job as clients see it, its files, and the front of a search."""

from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, computed_field

from app.domain.generated import GeneratedData
from app.domain.jobs import Evaluate, JobStatus, Usage
from app.domain.problems import ProblemDetails
from app.domain.reports import ArtifactFigures, Measures, StepReport
from app.domain.request_parts import Limits, Objective, Require, Requires
from app.domain.searches import Goal, SearchPoint, SearchState
from app.domain.steps import AnyStep
from app.domain.targets import OutputFormat


class Artifact(ArtifactFigures):
    """A file that the user downloads, and what it does on its own runtime."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    format: OutputFormat
    filename: str = Field(
        default="",
        description="What the download is called, as its 'Content-Disposition' says.",
    )
    size_bytes: int
    sha256: str

    @computed_field
    def href(self) -> str:
        """The path that it is downloaded from."""
        return f"/v1/artifacts/{self.id}/content"


class Job(BaseModel):
    """A job as clients see it; in lists and webhooks without its step reports."""

    id: str
    status: JobStatus
    stage: str
    progress: float
    model: str
    dataset: str | None
    data: GeneratedData | None = Field(
        description="'generated': samples were made from the model, in place of a dataset."
    )
    name: str | None
    title: str = Field(
        default="",
        description="What lists call it: its name, or else what it does to which model.",
    )
    tags: list[str]
    steps: list[AnyStep] | None
    objective: Objective | None
    """Of a search, which has it in place of steps."""
    measure: Literal["sensitivity"] | None
    """Of a job that measures the model in place of making another."""
    search: SearchState | None
    """Of a search: its trials, and the best point so far."""
    parent: str | None
    """Of a trial: the search that filed it."""
    evaluate: Evaluate
    require: Require
    target: str | None
    deliver: list[OutputFormat]
    limits: Limits
    priority: int
    requires: Requires
    seed: int
    created_at: AwareDatetime
    started_at: AwareDatetime | None
    finished_at: AwareDatetime | None
    attempts: int
    queue_position: int | None = Field(description="From 1, among your own jobs that are queued.")
    eta_seconds: float | None
    usage: Usage
    baseline: Measures | None
    compressed: Measures | None
    ruined: bool = Field(
        default=False,
        description="Whether the result does not do what the original does: less than half of it is"
        " left. A job that requires nothing has succeeded all the same.",
    )
    verdict: str | None
    artifacts: list[Artifact]
    problem: ProblemDetails | None = Field(default=None, exclude_if=lambda value: value is None)
    step_reports: list[StepReport] | None = Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="Left out in lists and webhooks.",
    )


class FrontPoint(SearchPoint):
    """A point of a search's front, and the file that it stands for."""

    artifact: Artifact | None
    """The trial's first file; null for the original, which is the model itself."""


class Front(BaseModel):
    """What a search found: no other trial is at least as good in cost and in quality."""

    goal: Goal
    points: list[FrontPoint]
    """The least cost first."""
    best: str | None
    """The id of the point that the search's own result is."""


class MadeWebhook(BaseModel):
    """A job's one-off webhook: where its deliveries are read, and a secret that was made for it."""

    id: str
    secret: str | None = Field(default=None, exclude_if=lambda value: value is None)
    """Shown this once."""


class SubmittedJob(Job):
    """A job just submitted."""

    webhook: MadeWebhook | None = Field(default=None, exclude_if=lambda value: value is None)
