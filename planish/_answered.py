# Made by scripts/client_types.py of app/domain: change that, and run it again.
"""The service's answers, field by field.

Sizes are bytes, latencies milliseconds, times are in UTC. A field that a newer service adds is
ignored, so that an older client goes on working.
"""

from datetime import date, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class Answer(BaseModel):
    """What all answers have in common."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class FieldError(Answer):
    """One faulty field of a request: where it is and what is wrong with it."""

    pointer: str
    detail: str


class Conversion(Answer):
    """How an upload became an ONNX graph, and how far that is from its framework's answers."""

    source: str
    version: str
    max_error: float
    warnings: list[str] = []


class Problem(Answer):
    """The body of every 4xx and 5xx answer, and of a rejected or failed resource's ``problem``."""

    model_config = ConfigDict(frozen=True, extra="allow")

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldError] | None = None


class Tensor(Answer):
    """A graph's input or output, or one array of a dataset."""

    name: str
    dtype: str
    shape: list[int | str] = []


class Model(Answer):
    """An uploaded model as clients see it; what inspection finds is null until then."""

    id: str
    name: str | None = None
    filename: str | None = None
    format: str | None = None
    conversion: Conversion | None = None
    status: Literal["inspecting", "ready", "rejected"]
    problem: Problem | None = None
    sha256: str
    size_bytes: int
    parameters: int | None = None
    nonzero_parameters: int | None = None
    macs: int | None = None
    sample_sizes: dict[str, int] | None = None
    opset: int | None = None
    inputs: list[Tensor] | None = None
    outputs: list[Tensor] | None = None
    operators: dict[str, int] | None = None
    notes: list[str] | None = None
    trainable: bool | None = None
    untrainable: list[dict[str, Any]] | None = None
    created_at: datetime


class Targets(Answer):
    """What the model should have answered."""

    dtype: str
    shape: list[int | str] = []
    classes: int | list[str] | None = None
    counts: list[int] | None = None


class Dataset(Answer):
    """An uploaded dataset as clients see it; what inspection finds is null until then."""

    id: str
    name: str | None = None
    filename: str | None = None
    format: str | None = None
    status: Literal["inspecting", "ready", "rejected"]
    problem: Problem | None = None
    sha256: str
    size_bytes: int
    samples: int | None = None
    arrays: list[Tensor] | None = None
    targets: Targets | None = None
    created_at: datetime


class Quality(Answer):
    """A metric against targets."""

    metric: str
    kind: str
    value: float
    split: str = "held_out"
    samples: int


class Worst(Answer):
    """The channel of all outputs that keeps the least of the original's variance."""

    output: str
    channel: int | None = None
    explained: float
    others: float | None = None


class Fidelity(Answer):
    """How near the outputs are to the original's, on held-out inputs."""

    sqnr_db: float | None = None
    agreement: float
    explained: float | None = None
    worst: Worst | None = None
    commonest: float | None = None
    bounded: str = "agreement"
    samples: int | None = None
    beside: list[dict[str, Any]] | None = None


class Measures(Answer):
    """The figures of one graph."""

    size_bytes: int
    parameters: int
    nonzero_parameters: int
    macs: int
    latency_ms: float | None = None
    quality: Quality | None = None
    fidelity: Fidelity | None = None
    peak_memory_bytes: int | None = None


class Artifact(Answer):
    """A file that the user downloads, and what it does on its own runtime."""

    runtime: str | None = None
    ran: bool = True
    reason: str | None = None
    max_error: float | None = None
    latency_ms: float | None = None
    quality: Quality | None = None
    fidelity: Fidelity | None = None
    id: str
    format: str
    filename: str = ""
    """What the download is called, as its 'Content-Disposition' says."""
    size_bytes: int
    sha256: str
    href: str
    """The path that it is downloaded from."""


class Usage(Answer):
    """What a job has used so far, over all its attempts."""

    cpu_seconds: float = 0.0
    gpu_seconds: float = 0.0
    peak_memory_bytes: int = 0


class SearchPoint(Answer):
    """A pipeline that was tried, and what it gives; or the original, without steps."""

    id: str
    trial: int | None = None
    steps: list[Any] = []
    size_bytes: int
    latency_ms: float | None = None
    macs: int
    quality: Quality | None = None
    fidelity: Fidelity | None = None
    cost: float
    drop: float
    holds: bool
    ruined: bool = False
    device: str | None = None


class FrontPoint(SearchPoint):
    """A point of a search's front, and the file that it stands for."""

    artifact: Artifact | None = None


class Front(Answer):
    """What a search found: no other trial is at least as good in cost and in quality."""

    goal: str
    points: list[FrontPoint] = []
    best: str | None = None


class TrialCounts(Answer):
    """How many trials a search has made, and how many it may still make."""

    budget: int
    done: int
    failed: int
    running: int
    left: int


class SearchState(Answer):
    """How far a search is."""

    strategy: str
    trials: TrialCounts
    best: SearchPoint | None = None
    ended_by: str | None = None


class Job(Answer):
    """A job as clients see it; in lists and webhooks without its step reports."""

    id: str
    status: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    stage: str
    progress: float
    model: str
    dataset: str | None = None
    data: str | None = None
    """'generated': samples were made from the model, in place of a dataset."""
    name: str | None = None
    title: str = ""
    """What lists call it: its name, or else what it does to which model."""
    tags: list[str] = []
    steps: list[Any] | None = None
    objective: dict[str, Any] | None = None
    measure: str | None = None
    search: SearchState | None = None
    parent: str | None = None
    evaluate: dict[str, Any] = {}
    require: dict[str, Any] = {}
    target: str | None = None
    deliver: list[str] = []
    limits: dict[str, Any] = {}
    priority: int
    requires: dict[str, Any] = {}
    seed: int
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    attempts: int
    queue_position: int | None = None
    """From 1, among your own jobs that are queued."""
    eta_seconds: float | None = None
    usage: Usage
    baseline: Measures | None = None
    compressed: Measures | None = None
    ruined: bool = False
    """Whether the result does not do what the original does: less than half of it is left. A job
    that requires nothing has succeeded all the same."""
    verdict: str | None = None
    artifacts: list[Artifact] = []
    problem: Problem | None = None
    step_reports: list[dict[str, Any]] | None = None
    """Left out in lists and webhooks."""


class Plan(Answer):
    """The answer of ``POST /v1/jobs/plan``."""

    ok: bool
    steps: list[Any] = []
    refused: list[dict[str, Any]] = []
    skipped: list[dict[str, Any]] = []
    idle: list[int] = []
    """The steps that will change nothing, as far as that is known before they run."""
    warnings: list[str] = []
    doubts: list[dict[str, Any]] = []
    """Those of the warnings that have a place."""
    remarks: list[dict[str, Any]] = []
    estimate: dict[str, Any] = {}


class Webhook(Answer):
    """An address to tell, as clients see it."""

    id: str
    url: str
    events: list[str] = []
    description: str | None = None
    enabled: bool
    disabled_reason: str | None = None
    secret: str | None = None
    """On creation and rotation only."""
    created_at: datetime


class Attempt(Answer):
    """One try to deliver, and how it ended."""

    at: datetime
    response_status: int | None = None
    duration_ms: float | None = None
    error: str | None = None
    """Why it counts as failed; never what the receiver wrote."""


class Delivery(Answer):
    """One message to one webhook, as clients see it."""

    id: str
    event: str
    job: str | None = None
    status: Literal["pending", "delivered", "failed"]
    attempts: list[Attempt] = []
    next_attempt_at: datetime | None = None


class UsageDay(Answer):
    """What was used on one day, in UTC."""

    day: date
    cpu_seconds: float
    gpu_seconds: float
    jobs: int
    stored_bytes: int


class Estimate(Answer):
    """What a job is expected to come to; null is what is not known before it runs."""

    size_bytes: int | None = None
    macs: int | None = None
    latency_ms: float | None = None
    minutes: float | None = None
    measured: list[str] = []
    jobs: list[str] = []
    """Those jobs, the latest first; ten at most."""


class Recommendation(Answer):
    """A job that is worth a try."""

    id: str
    title: str
    reason: str
    job: dict[str, Any] = {}
    """A body for 'POST /v1/jobs', to be sent as it is."""
    estimate: Estimate
    risk: str
    caution: str


class Upload(Answer):
    """An upload as clients see it."""

    id: str
    length: int
    offset: int
    filename: str | None = None
    direct: bool = False
    created_at: datetime
    expires_at: datetime


class Part(Answer):
    """A part of an upload that the storage takes directly."""

    start: int
    """Where its bytes begin."""
    size_bytes: int
    url: str
    """Takes exactly these bytes as the body of a `PUT`, without our key."""


class Parts(Answer):
    """The parts of an upload that the storage does not have yet."""

    items: list[Part] = []
    headers: dict[str, str] = {}
    """What each `PUT` has to say."""
    expires_at: datetime
    """The addresses are good until then; ask again for new ones."""


class Spread(Answer):
    """Latencies of interleaved runs, milliseconds."""

    median: float
    p10: float
    p90: float
    runs: int


class Comparison(Answer):
    """Original against compressed, in one process, run by turns with the same threads."""

    original: Spread
    compressed: Spread
    speedup: float
    speedup_low: float | None = None
    speedup_high: float | None = None
    certain: bool = True
    left_out: int = 0


class RunInput(Answer):
    """One array that a timed run reads."""

    name: str
    dtype: str
    shape: list[int] = []
    below: int | None = None


class TimedRun(Answer):
    """What one timed run reads, so that it can be timed again elsewhere."""

    inputs: list[RunInput] = []
    samples: int


class TimedFile(Answer):
    """A file to time, and where to download it."""

    href: str
    sha256: str
    size_bytes: int


class Task(Answer):
    """A measurement that an agent has claimed."""

    id: str
    token: int
    job: str
    format: str
    original: TimedFile
    candidate: TimedFile
    run: TimedRun
    expires_at: datetime


class Claimed(Answer):
    """What an agent is to time next."""

    task: Task | None = None


class Measurement(Answer):
    """A file of a job, and how fast it is on a device."""

    id: str
    job: str
    device: str
    artifact: str | None = None
    format: str
    sha256: str
    state: str
    latency: Comparison | None = None
    runtime: str | None = None
    machine: str | None = None
    threads: int | None = None
    problem: str | None = None
    created_at: datetime
    finished_at: datetime | None = None


class Device(Answer):
    """A device that times files."""

    id: str
    name: str
    formats: list[str] = []
    runtime: str
    machine: str
    threads: int
    created_at: datetime
    seen_at: datetime


class RegisteredDevice(Device):
    """A device whose agent has just registered."""

    token: str
