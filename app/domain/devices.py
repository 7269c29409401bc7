"""Devices of a tenant that time files: a board, a phone, a server that no worker runs on.

Their agents call the service, never the other way round.
"""

from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from app.domain.fault_words import Said
from app.domain.frozen import Asked
from app.domain.latencies import Comparison, TimedRun
from app.domain.targets import OutputFormat

TargetName = Annotated[
    str,
    Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$"),
    Said(
        "must be a name such as mobile-litert: letters and digits, with '.', '_' or '-' between"
        " them, 64 in all"
    ),
]
"""A deployment target, a device of the tenant, or a label that workers announce."""

MeasurementState = Literal["queued", "running", "measured", "failed"]

MOST_FORMATS = 4
_MOST_RUNS = 1_000_000
_MOST_MS = 24 * 3600 * 1000
_Words = Annotated[str, Field(min_length=1, max_length=200)]


class DeviceRequest(Asked):
    """The body of ``POST /v1/devices``: what an agent says of where it runs."""

    name: TargetName
    formats: list[OutputFormat] = Field(
        default=["onnx"],
        min_length=1,
        max_length=MOST_FORMATS,
        description="The formats of files that the device can run.",
    )
    runtime: _Words
    """Such as ``onnxruntime 1.32.0, CPUExecutionProvider``."""
    machine: _Words
    """The processor and the system, in words."""
    threads: int = Field(ge=1, le=1024)
    """How many threads the runtime computes with."""


class TenantDevice(BaseModel):
    """A device that times files."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    name: str
    formats: list[OutputFormat]
    runtime: str
    machine: str
    threads: int
    created_at: AwareDatetime
    seen_at: AwareDatetime
    """When its agent last asked for work."""


class RegisteredDevice(TenantDevice):
    """A device whose agent has just registered."""

    token: str
    """Shown this once. It replaces the token of an earlier agent of the device."""


class TimedFile(BaseModel):
    """A file to time, and where to download it."""

    href: str
    sha256: str
    size_bytes: int
    """0 where it is not known."""


class Task(BaseModel):
    """A measurement that an agent has claimed."""

    id: str
    token: int
    """Comes back with the report; a report with an older one is refused."""
    job: str
    format: OutputFormat
    original: TimedFile
    candidate: TimedFile
    run: TimedRun
    expires_at: AwareDatetime
    """When the measurement is given out again, unless it was renewed or reported."""


class Claimed(BaseModel):
    """What an agent is to time next."""

    task: Task | None
    """Null where nothing waits."""


class Renewal(Asked):
    """The body of a renewal: the agent is still at work."""

    token: int = Field(ge=0, lt=2**63)


class Timed(Asked):
    """Milliseconds of one sample of a file."""

    median: float = Field(gt=0, le=_MOST_MS, allow_inf_nan=False)
    p10: float = Field(gt=0, le=_MOST_MS, allow_inf_nan=False)
    p90: float = Field(gt=0, le=_MOST_MS, allow_inf_nan=False)
    runs: int = Field(ge=1, le=_MOST_RUNS)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.p10 <= self.median <= self.p90:
            raise ValueError("'median' lies between 'p10' and 'p90'")
        return self


class TimedByTurns(Asked):
    """The original against a file, by turns on the device."""

    original: Timed
    compressed: Timed
    speedup: float = Field(gt=0, le=1e6, allow_inf_nan=False)
    speedup_low: float = Field(ge=0, le=1e6, allow_inf_nan=False)
    speedup_high: float = Field(gt=0, le=1e9, allow_inf_nan=False)
    certain: bool
    left_out: int = Field(ge=0, le=_MOST_RUNS)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.speedup_low <= self.speedup <= self.speedup_high:
            raise ValueError("'speedup' lies between 'speedup_low' and 'speedup_high'")
        return self


class MeasurementReport(Asked):
    """The body of a report: what a device measured, or why it could not."""

    token: int = Field(ge=0, lt=2**63)
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="Of the file that was timed.")
    latency: TimedByTurns | None = None
    problem: str | None = Field(default=None, min_length=1, max_length=500)

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.latency is None) == (self.problem is None):
            raise ValueError("give either 'latency' or 'problem'")
        return self


class Measurement(BaseModel):
    """A file of a job, and how fast it is on a device."""

    id: str
    job: str
    device: str
    """Its name."""
    artifact: str | None
    """Null where the artifact was deleted."""
    format: OutputFormat
    sha256: str
    """Of the file."""
    state: MeasurementState
    latency: Comparison | None
    """The original against the file, by turns on the device."""
    runtime: str | None
    machine: str | None
    threads: int | None
    problem: str | None
    created_at: AwareDatetime
    finished_at: AwareDatetime | None
