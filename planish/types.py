"""What the service answers, as typed values.

Sizes are bytes, latencies milliseconds, times are in UTC. A field that a newer service adds is
ignored, so that an older client goes on working.
"""

from datetime import date, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]

FINISHED: frozenset[str] = frozenset({"succeeded", "failed", "cancelled"})


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class FieldError(_Answer):
    """One faulty field of a request."""

    pointer: str
    """A JSON pointer, such as ``#/steps/0/ratio``."""
    detail: str


class Problem(_Answer):
    """An RFC 9457 problem: what is wrong, and what to do instead."""

    model_config = ConfigDict(frozen=True, extra="allow")

    type: str = "about:blank"
    title: str
    status: int
    detail: str = ""
    errors: list[FieldError] | None = None


class Upload(_Answer):
    """Bytes that come in several requests, before a model or a dataset is made of them."""

    id: str
    length: int
    offset: int
    direct: bool = False


class Part(_Answer):
    """A part of an upload that the service's storage takes itself, at an address."""

    start: int
    size_bytes: int
    url: str


class Parts(_Answer):
    """The parts of an upload that the storage does not have yet."""

    items: list[Part]
    headers: dict[str, str]


class Tensor(_Answer):
    """An input, an output or an array; a dynamic dimension is a string."""

    name: str
    dtype: str
    shape: list[int | str]


class Conversion(_Answer):
    """How a file of another framework became an ONNX graph, and how near that is."""

    source: str
    version: str
    max_error: float
    warnings: list[str] = []


class Model(_Answer):
    """An uploaded model; what inspection finds is null until it is ``ready``."""

    id: str
    name: str | None
    format: str | None
    conversion: Conversion | None = None
    status: Literal["inspecting", "ready", "rejected"]
    problem: Problem | None = None
    sha256: str
    size_bytes: int
    parameters: int | None
    macs: int | None
    opset: int | None
    inputs: list[Tensor] | None
    outputs: list[Tensor] | None
    operators: dict[str, int] | None
    trainable: bool | None = None
    created_at: datetime


class Targets(_Answer):
    """What the model should have answered."""

    dtype: str
    shape: list[int | str]
    classes: int | list[str] | None


class Dataset(_Answer):
    """An uploaded dataset; what inspection finds is null until it is ``ready``."""

    id: str
    name: str | None
    format: str | None
    status: Literal["inspecting", "ready", "rejected"]
    problem: Problem | None = None
    sha256: str
    size_bytes: int
    samples: int | None
    arrays: list[Tensor] | None
    targets: Targets | None
    created_at: datetime


class Quality(_Answer):
    """A metric against targets, on the held-out split."""

    metric: str
    value: float
    split: str
    samples: int


class Worst(_Answer):
    """The channel of all outputs that keeps the least of the original's variance."""

    output: str
    channel: int | None
    explained: float


class Fidelity(_Answer):
    """How near the outputs are to the original's."""

    sqnr_db: float | None
    agreement: float
    explained: float | None = None
    """The share of the variance that is kept; 1 is equal, below 0 is noise."""
    worst: Worst | None = None


class Measures(_Answer):
    """The figures of one model."""

    size_bytes: int
    parameters: int
    nonzero_parameters: int
    macs: int
    latency_ms: float | None
    quality: Quality | None
    fidelity: Fidelity | None


class Artifact(_Answer):
    """A file to download, and what it does on its own runtime."""

    id: str
    format: str
    size_bytes: int
    sha256: str
    href: str
    runtime: str | None = None
    ran: bool = True
    reason: str | None = None
    max_error: float | None = None
    latency_ms: float | None = None
    quality: dict[str, Any] | None = None
    fidelity: dict[str, Any] | None = None


class Usage(_Answer):
    """What a job has used, over all its attempts."""

    cpu_seconds: float
    gpu_seconds: float
    peak_memory_bytes: int


class SearchPoint(_Answer):
    """A pipeline that a search tried, and what it gives; without steps it is the original."""

    id: str
    trial: int | None
    steps: list[dict[str, Any]]
    size_bytes: int
    latency_ms: float | None
    macs: int
    quality: Quality | None
    fidelity: Fidelity | None
    cost: float
    drop: float
    holds: bool


class FrontPoint(SearchPoint):
    """A point of a search's front, and the file that it stands for."""

    artifact: Artifact | None


class Front(_Answer):
    """What a search found: no other trial is as good in cost and in quality."""

    goal: str
    points: list[FrontPoint]
    best: str | None


class TrialCounts(_Answer):
    """How many trials a search has made, and how many it may still make."""

    budget: int
    done: int
    failed: int
    running: int
    left: int


class SearchState(_Answer):
    """How far a search is; ``best`` is null while that is the original."""

    strategy: str
    trials: TrialCounts
    best: SearchPoint | None = None


class Job(_Answer):
    """A compression job."""

    id: str
    status: Status
    stage: str
    progress: float
    model: str
    dataset: str | None
    data: str | None = None
    name: str | None
    tags: list[str]
    steps: list[dict[str, Any]] | None
    objective: dict[str, Any] | None = None
    search: SearchState | None = None
    parent: str | None = None
    target: str | None = None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    attempts: int
    queue_position: int | None
    eta_seconds: float | None
    usage: Usage
    baseline: Measures | None
    compressed: Measures | None
    verdict: str | None = None
    artifacts: list[Artifact]
    problem: Problem | None = None
    step_reports: list[dict[str, Any]] | None = None

    @property
    def is_finished(self) -> bool:
        """Whether a terminal state is reached."""
        return self.status in FINISHED


class Plan(_Answer):
    """What a job would do: nothing was run."""

    ok: bool
    steps: list[dict[str, Any]]
    refused: list[dict[str, Any]]
    skipped: list[dict[str, Any]]
    warnings: list[str]
    remarks: list[dict[str, Any]] = []
    estimate: dict[str, float | None] | None


class Webhook(_Answer):
    """An address that is told how jobs end; ``secret`` is there on creation alone."""

    id: str
    url: str
    events: list[str]
    description: str | None
    enabled: bool
    disabled_reason: str | None = None
    secret: str | None = None
    created_at: datetime


class Attempt(_Answer):
    """One try to deliver a message, and how it ended."""

    at: datetime
    response_status: int | None
    duration_ms: float | None
    error: str | None = None


class Delivery(_Answer):
    """One message to one webhook."""

    id: str
    event: str
    job: str | None
    status: Literal["pending", "delivered", "failed"]
    attempts: list[Attempt]
    next_attempt_at: datetime | None


class Message(_Answer):
    """What a webhook is sent; ``data`` is a job without its step reports, or what the test has."""

    type: str
    """Such as ``job.succeeded``."""
    timestamp: datetime
    data: dict[str, Any]

    @property
    def job(self) -> Job | None:
        """The job, where the message tells of one."""
        return Job.model_validate(self.data) if self.type.startswith("job.") else None


class UsageDay(_Answer):
    """What was used on one day, in UTC."""

    day: date
    cpu_seconds: float
    gpu_seconds: float
    jobs: int
    stored_bytes: int


class Estimate(_Answer):
    """What a job is expected to come to; None is what is not known before it runs."""

    size_bytes: int | None
    macs: int | None
    latency_ms: float | None
    minutes: float | None
    measured: list[str] = []
    """The figures that rest on measurements of ``jobs``; the others are computed."""
    jobs: list[str] = []


class Recommendation(_Answer):
    """A job that may suit a model; ``job`` is a request for it."""

    id: str
    title: str
    reason: str
    job: dict[str, Any]
    estimate: Estimate
    risk: str
    """``low``, ``medium`` or ``high``."""
    caution: str = ""


class Event(_Answer):
    """One event of a job's stream; ``number`` counts up within the job."""

    number: int
    kind: str
    """``state``, ``progress``, ``metric`` or ``log``."""
    data: dict[str, Any]

    @property
    def ends_the_job(self) -> bool:
        """Whether it tells of a terminal state."""
        return self.kind == "state" and self.data.get("status") in FINISHED
