"""Every setting, typed, in nested groups; each has an environment variable.

``DATABASE_URL`` is ``settings.database.url``, ``LEASE_SECONDS`` is ``settings.lease.seconds``, and
so on. With none set, ``planish serve`` starts everything it needs by itself (see ``app.local``).
"""

from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

MIB = 1024**2
GIB = 1024**3
TRUSTED_MINUTES = 5.0
"""Bytes that were stored so lately are not stored again, so no collector may take them by then."""

Seconds = Annotated[float, Field(gt=0)]
Bytes = Annotated[int, Field(gt=0)]


class _Group(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="ignore", use_attribute_docstrings=True, hide_input_in_errors=True
    )


def _parts(value: object) -> object:
    """Return the parts of a list that is separated by commas."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


class Database(_Group):
    """The job store."""

    url: str = ""
    """``postgresql://user:password@host/name``."""
    pool: int = Field(default=20, gt=0)
    """Connections a process may hold; a gateway as many again, for what only reads."""
    pooled: bool = False
    """Whether a pooler that keeps no session is in between, like PgBouncer in transaction mode."""
    statement_seconds: Seconds = 30
    """A statement that takes longer is given up."""


class Broker(_Group):
    """The queue."""

    url: str = ""
    """``redis://host:6379/0``, or ``redis+socket:///path``."""


class Storage(_Group):
    """Where the bytes are."""

    url: str = ""
    """``s3://bucket/prefix``, ``gs://…``, ``az://…`` or ``file:///path``."""
    grace_minutes: float = Field(default=60, ge=2 * TRUSTED_MINUTES)
    """How old an unreferenced blob must be before it is collected."""


class Server(_Group):
    """The gateway."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(default=8080, ge=0, le=65535)
    """Port to listen on."""
    public_url: str | None = None
    """How clients reach the service, where that differs from host and port."""
    allowed_hosts: list[str] = []
    """``Host`` headers to answer besides the own address; empty: any, where keys are needed."""
    shutdown_seconds: Seconds = 10
    """How long open requests may take to finish when the gateway stops."""


class Auth(_Group):
    """Who may call."""

    required: bool | None = None
    """Whether a key is needed. Default: unless started without configuration on loopback."""


class Upload(_Group):
    """What may be sent."""

    max_bytes: Bytes = 8 * GIB
    """The largest model or dataset."""
    expire_hours: float = Field(default=24, gt=0, le=24 * 30)
    """After how many hours an upload that goes on is forgotten."""
    max_json_bytes: Bytes = MIB
    """The largest JSON body."""


class Quota(_Group):
    """What a tenant may use."""

    active_jobs: int = Field(default=1000, gt=0)
    """Jobs queued or running at one time."""
    stored_bytes: Bytes = 200 * GIB
    """Bytes of models, datasets and artifacts, and of uploads on their way."""
    uploads: int = Field(default=100, gt=0)
    """Uploads that go on, begun and not used yet."""
    requests_per_minute: int = Field(default=60_000, gt=0)
    """Requests of one API key, counted by each gateway for itself; more are answered with 429."""


class Share(_Group):
    """Whose turn it is when more waits than can run."""

    weights: dict[str, Annotated[float, Field(gt=0)]] = {}
    """Tenants with another share of the workers than 1, in JSON: `{"research": 2}`."""


class Lease(_Group):
    """How a worker holds what it works on."""

    seconds: Seconds = 6
    """A lease that is not renewed for so long is taken back."""
    renew_seconds: Seconds = 1
    """How often a worker renews, and looks for a cancellation."""
    scan_seconds: Seconds = 2
    """How often workers look at the table by themselves."""
    attempts: int = Field(default=3, gt=0)
    """How often a run is started before it fails for good."""


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


class Worker(_Group):
    """The Celery workers of this machine."""

    devices: list[str] | None = None
    """``cpu`` or ``cuda:0``…: one job slot each. Default: every CUDA device, else one ``cpu``."""
    labels: Annotated[list[str], NoDecode] = []
    """What jobs may ask of a worker by name (comma-separated), like `arm64`."""
    light_slots: int = Field(default=2, gt=0)
    """Inspections at one time."""
    directory: Path | None = None
    """Where job directories are made. Default: the system's temporary directory."""
    tools: Path | None = None
    """Where ``planish tools install`` puts environments. Default: beside the service's packages."""

    @field_validator("labels", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return _parts(value)


class Webhook(_Group):
    """Telling callers."""

    allowed_networks: Annotated[list[IPv4Network | IPv6Network], NoDecode] = []
    """Private networks that may be called (CIDRs, comma-separated)."""
    timeout_seconds: Seconds = 15
    """How long a receiver may take to answer."""
    disable_after_hours: float = Field(default=24 * 5, gt=0)
    """An endpoint that fails for so long is disabled."""

    @field_validator("allowed_networks", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return _parts(value)


class Logging(_Group):
    """What is said on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important level that is shown."""
    format: Literal["json", "console"] = "json"
    """One JSON object a line, or something for people."""


class Dashboard(_Group):
    """The pages for people."""

    session_hours: float = Field(default=12, gt=0, le=24 * 30)
    """After how many hours a person has to log in again."""


class Idempotency(_Group):
    """Answers kept for retries."""

    hours: float = Field(default=24, gt=0)
    """How long an answer is kept under its key."""


class Settings(BaseSettings):
    """All of it."""

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
    engine: Engine = Engine()
    worker: Worker = Worker()
    webhook: Webhook = Webhook()
    logging: Logging = Logging()
    dashboard: Dashboard = Dashboard()
    idempotency: Idempotency = Idempotency()


@lru_cache(maxsize=1)
def settings() -> Settings:
    """Return the settings of this process, read once from its environment."""
    return Settings()
