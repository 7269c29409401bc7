"""Every setting, typed, in nested groups; each has an environment variable.

``DATABASE_URL`` is ``settings.database.url``, ``LEASE_SECONDS`` is ``settings.lease.seconds``, and
so on. With none set, ``planish serve`` starts everything it needs by itself (see ``app.local``).
"""

from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.domain.fault_words import Said
from app.domain.sources import Place

MIB = 1024**2
GIB = 1024**3
TRUSTED_MINUTES = 5.0
"""Bytes stored more recently than this are not stored again, so no collector may delete them
yet."""

Network = Annotated[
    IPv4Network | IPv6Network, Said("must be networks such as 10.0.0.0/8, with commas between them")
]
Seconds = Annotated[float, Field(gt=0)]
Bytes = Annotated[int, Field(gt=0)]
Days = Annotated[float, Field(gt=0)]


class _Group(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="ignore", use_attribute_docstrings=True, hide_input_in_errors=True
    )


def _parts(value: object) -> object:
    """Split a comma-separated list."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


class Database(_Group):
    """The job store."""

    url: str = ""
    """``postgresql://user:password@host/name``."""
    pool: int = Field(default=20, gt=0)
    """Connections of a process; a gateway has as many again for requests that only read."""
    pooled: bool = False
    """Whether connections go through a pooler without sessions (PgBouncer in transaction mode)."""
    statement_seconds: Seconds = 30
    """A statement that takes longer is given up."""


class Broker(_Group):
    """The queue."""

    url: str = ""
    """``redis://host:6379/0``, or ``redis+socket:///path``."""


class Storage(_Group):
    """The storage of models, datasets and artifacts."""

    url: str = ""
    """``s3://bucket/prefix``, ``gs://…``, ``az://…`` or ``file:///path``."""
    grace_minutes: float = Field(default=60, ge=2 * TRUSTED_MINUTES)
    """How old an unreferenced blob must be before it is collected."""


class Server(_Group):
    """Where the gateway listens, and by which names clients reach it."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(default=8080, ge=0, le=65535)
    """Port to listen on."""
    public_url: str | None = None
    """How clients reach the service, where that differs from host and port."""
    allowed_hosts: list[str] = []
    """Accepted ``Host`` headers besides the service's own; empty accepts any, if keys are
    required."""
    shutdown_seconds: Seconds = 10
    """How long open requests may take to finish when the gateway stops."""


class Auth(_Group):
    """Who may call."""

    required: bool | None = None
    """Whether a key is needed. Default: unless started without configuration on loopback."""


class Upload(_Group):
    """Limits on requests and uploads."""

    max_bytes: Bytes = 8 * GIB
    """The largest model or dataset."""
    expire_hours: float = Field(default=24, gt=0, le=24 * 30)
    """Hours after which an unfinished upload is deleted."""
    pending_minutes: float = Field(default=24 * 60, gt=0)
    """Minutes after its request that a model or dataset waits for a worker that inspects it; then
    it is rejected."""
    max_json_bytes: Bytes = MIB
    """The largest JSON body."""
    direct_url: str = ""
    """The storage as clients reach it, usually `STORAGE_URL` again: large uploads are then sent
    there directly, at signed addresses. Default: all bytes come to the gateway."""
    direct_part_bytes: Bytes = 64 * MIB
    """The bytes of one part that is sent to the storage directly."""

    @field_validator("direct_url")
    @classmethod
    def _signs(cls, value: str) -> str:
        if value and urlsplit(value).scheme not in {"s3", "gs", "az"}:
            raise ValueError("must begin with s3://, gs:// or az://: a disk signs no addresses")
        return value


class Quota(_Group):
    """Limits for each tenant."""

    active_jobs: int = Field(default=1000, gt=0)
    """Jobs queued or running at one time."""
    stored_bytes: Bytes = 200 * GIB
    """Bytes of models, datasets, unfinished uploads, and all that jobs keep."""
    uploads: int = Field(default=100, gt=0)
    """Resumable uploads that were begun and not used yet."""
    arriving_uploads: int = Field(default=64, gt=0)
    """Requests that send a file at one time, counted by each gateway separately; more get 429."""
    event_streams: int = Field(default=1000, gt=0)
    """Event streams that are open at one time, counted by each gateway separately; more get 429."""
    requests_per_minute: int = Field(default=60_000, gt=0)
    """Requests of one API key, counted by each gateway separately; more are answered with 429."""
    devices: int = Field(default=20, gt=0)
    """Devices that agents have registered."""


class Share(_Group):
    """The shares of tenants when more work waits than can run."""

    weights: dict[str, Annotated[float, Field(gt=0)]] = {}
    """Tenants with another share of the workers than 1, in JSON: `{"research": 2}`."""


class Lease(_Group):
    """The lease of a worker on a job or an upload."""

    seconds: Seconds = 6
    """A lease that is not renewed for this time is taken back."""
    renew_seconds: Seconds = 1
    """How often a worker renews, and looks for a cancellation."""
    scan_seconds: Seconds = 2
    """How often workers look for waiting work, gateways and workers for what killed ones held."""
    attempts: int = Field(default=3, gt=0)
    """How often a run is started before it fails for good: its engine died each time, or met a
    fault of ours."""
    losses: int = Field(default=10, gt=0, le=1000)
    """How often in a row a run may lose its worker before it fails for good: the count begins anew
    with each finished step. A run that lost its worker is none of `LEASE_ATTEMPTS`."""

    @property
    def blind_seconds(self) -> float:
        """How long the database may be away without any lease running out.

        A lease is renewed up to one interval before it goes, and up to one after it is back.
        """
        return self.seconds - 2 * self.renew_seconds

    @model_validator(mode="after")
    def _look_often_enough(self) -> Self:
        """Refuse looks that are further apart: they say nothing of the time in between."""
        if 1.5 * self.scan_seconds > self.blind_seconds:
            raise ValueError(
                "LEASE_SECONDS must be at least twice LEASE_RENEW_SECONDS and one and a half times"
                " LEASE_SCAN_SECONDS together"
            )
        return self


class Device(_Group):
    """Devices that time files, and searches that wait for them."""

    lease_seconds: Seconds = 30
    """A measurement is given out again when its agent has not renewed it for this time."""
    attempts: int = Field(default=3, gt=0)
    """How often a measurement is given out before it fails for good."""
    silent_seconds: Seconds = 60
    """A search does not wait for a device whose agent was silent for this time."""
    wait_seconds: Seconds = 900
    """A search waits this long for one measurement, and then goes on without it."""


class Engine(_Group):
    """The confined process that reads uploads and computes."""

    memory_bytes: Bytes = 16 * GIB
    """The most memory a run may use."""
    directory_bytes: Bytes = 64 * GIB
    """The most a run may write."""
    inspect_seconds: Seconds = 600
    """How long an inspection may take."""
    inspect_memory_bytes: Bytes = 8 * GIB
    """The most memory an inspection may use."""
    processes: int = Field(default=256, gt=0)
    """Processes and threads a run may have."""
    threads: int | None = Field(default=None, gt=0)
    """Threads a run computes with. Default: one a core, shared among the slots."""
    require_confinement: bool = True
    """Refuse to run an upload where the kernel cannot confine it."""
    reuse_steps: bool = True
    """Take a step's result that was made before of the same graph, data, parameters and seed, for
    the same tenant and by the same kind of machine, instead of making it again."""


class Worker(_Group):
    """The Celery workers of this machine."""

    devices: list[str] | None = None
    """``cpu`` or ``cuda:0``…: one job slot each. Default: every CUDA device, else one ``cpu``."""
    labels: Annotated[list[str], NoDecode] = []
    """Labels that jobs may require of a worker (comma-separated), like `arm64`."""
    light_slots: int = Field(default=2, gt=0)
    """Inspections at one time."""
    directory: Path | None = None
    """Where job directories are made, on local disk. Default: the system's temporary directory."""
    tools: Path | None = None
    """Where ``planish tools install`` puts environments. Default: beside the service's packages."""

    @field_validator("labels", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return _parts(value)


class Webhook(_Group):
    """Delivery of webhooks."""

    allowed_networks: Annotated[list[Network], NoDecode] = []
    """Private networks that may be called (CIDRs, comma-separated)."""
    timeout_seconds: Seconds = 15
    """How long a receiver may take to answer."""
    disable_after_hours: float = Field(default=24 * 5, gt=0)
    """An endpoint that fails for this time is disabled."""

    @field_validator("allowed_networks", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return _parts(value)


class Fetch(_Group):
    """Models and datasets that are named by an address."""

    allowed: Annotated[list[str], NoDecode] = []
    """Places to fetch from (comma-separated), like `https://models.example.com/released` or
    `s3://bucket/{tenant}?region=eu-west-1`; `{tenant}` stands for the caller's. Default: none."""
    allowed_networks: Annotated[list[Network], NoDecode] = []
    """Private networks whose hosts may be fetched from (CIDRs, comma-separated)."""
    seconds: Seconds = 1800
    """Time limit for one file."""
    idle_seconds: Seconds = 30
    """Time limit for a connection, and for each wait for the next bytes."""

    @field_validator("allowed", "allowed_networks", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return _parts(value)

    @field_validator("allowed")
    @classmethod
    def _check(cls, value: list[str]) -> list[str]:
        for text in value:
            Place.parse(text)
        return value

    @property
    def places(self) -> list[Place]:
        """The places to fetch from."""
        return [Place.parse(text) for text in self.allowed]


class Logging(_Group):
    """Logs on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important level that is shown."""
    format: Literal["json", "console"] = "json"
    """One JSON object a line, or something for people."""


class Tracing(_Group):
    """Traces of jobs, by OpenTelemetry, for which ``planish[otel]`` has to be installed."""

    enabled: bool = False
    """Trace requests and jobs. The variables of OpenTelemetry itself say where spans are sent
    (``OTEL_EXPORTER_OTLP_ENDPOINT``) and how many traces are kept (``OTEL_TRACES_SAMPLER``)."""


class Dashboard(_Group):
    """The dashboard."""

    session_hours: float = Field(default=12, gt=0, le=24 * 30)
    """After how many hours a person has to log in again."""


class Idempotency(_Group):
    """Answers kept for retries."""

    hours: float = Field(default=24, gt=0)
    """How long an answer is kept under its key."""


class Retained(_Group):
    """How long rows are kept; without a number, for ever."""

    model_config = ConfigDict(extra="forbid")  # a misspelt name keeps nothing

    jobs_days: Days | None = None
    """Days after a job's end until it is deleted, with its report and all that belongs to it."""
    events_days: Days | None = None
    """Days after a job's end until its events are deleted."""
    steps_days: Days | None = None
    """Days after a job's end until its steps' graphs, and samples that were made for it, are
    deleted; a retry makes them anew."""
    artifacts_days: Days | None = None
    """Days after a job's end until its artifacts are deleted."""
    deliveries_days: Days | None = None
    """Days until a webhook's delivery that was made or given up is deleted."""
    uploads_days: Days | None = None
    """Days until a model or dataset is deleted that no job has used meanwhile."""

    def days(self, kind: str) -> float | None:
        """Return how long rows of one kind are kept, such as ``jobs``; None for ever."""
        found: float | None = getattr(self, f"{kind}_days")
        return found


class Retention(Retained):
    """How long rows are kept, by default and by tenant."""

    model_config = ConfigDict(extra="ignore")

    tenants: dict[str, Retained] = {}
    """What is otherwise for some tenants, in JSON: `{"research": {"jobs_days": 30}}`."""

    def of(self, tenant: str) -> Retained:
        """Return how long a tenant's rows are kept."""
        own = self.tenants.get(tenant)
        if own is None:
            return self
        default = self.model_dump(exclude={"tenants"})
        return Retained.model_validate({**default, **own.model_dump(exclude_unset=True)})


class Settings(BaseSettings):
    """All settings."""

    model_config = SettingsConfigDict(
        env_nested_delimiter="_",
        env_nested_max_split=1,
        nested_model_default_partial_update=True,
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,
    )

    database: Database = Database()
    broker: Broker = Broker()
    storage: Storage = Storage()
    server: Server = Server()
    auth: Auth = Auth()
    upload: Upload = Upload()
    quota: Quota = Quota()
    share: Share = Share()
    lease: Lease = Lease()
    device: Device = Device()
    engine: Engine = Engine()
    worker: Worker = Worker()
    webhook: Webhook = Webhook()
    fetch: Fetch = Fetch()
    logging: Logging = Logging()
    tracing: Tracing = Tracing()
    dashboard: Dashboard = Dashboard()
    idempotency: Idempotency = Idempotency()
    retention: Retention = Retention()

    @model_validator(mode="after")
    def _keep_the_storage_apart(self) -> Self:
        """Refuse to fetch from the storage itself: its blobs belong to all tenants."""
        storage = urlsplit(self.storage.url)
        mine = f"{storage.path.rstrip('/')}/"
        for place in self.fetch.places:
            theirs = f"{place.path}/"
            nested = mine.startswith(theirs) or theirs.startswith(mine)
            if (place.scheme, place.host) == (storage.scheme, storage.hostname) and nested:
                raise ValueError("FETCH_ALLOWED must not contain STORAGE_URL, nor be inside it")
        return self


@lru_cache(maxsize=1)
def settings() -> Settings:
    """Return the settings of this process, read once from its environment."""
    return Settings()
