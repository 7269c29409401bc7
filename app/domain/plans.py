"""What a job would do, before anything runs."""

from pydantic import BaseModel, Field

from app.domain.steps import AnyStep


class Refusal(BaseModel):
    """Why the request cannot be carried out as it stands."""

    index: int | None = Field(description="The step that is refused; null if it is no step.")
    pointer: str = Field(description="JSON pointer to what is refused.")
    reason: str


class PlannedSkip(BaseModel):
    """A node that a step would leave as it is."""

    index: int
    node: str
    reason: str


class Doubt(BaseModel):
    """What is accepted, and does not do what it seems to ask for."""

    pointer: str = Field(description="JSON pointer to it.")
    reason: str


class Remark(BaseModel):
    """What a step will do, where its parameters leave that open."""

    index: int
    text: str


class Estimate(BaseModel):
    """What is expected of a job, from the model's description; null while unknown."""

    size_bytes: int | None
    macs: int | None
    minutes: float | None = Field(
        description="With what jobs of yours took here besides their steps, to read and to measure."
    )


class Plan(BaseModel):
    """The answer of ``POST /v1/jobs/plan``."""

    ok: bool
    steps: list[AnyStep]
    refused: list[Refusal]
    skipped: list[PlannedSkip]
    idle: list[int] = Field(
        description="The steps that will change nothing, as far as that is known before they run."
    )
    warnings: list[str]
    doubts: list[Doubt] = Field(description="Those of the warnings that have a place.")
    remarks: list[Remark]
    estimate: Estimate
