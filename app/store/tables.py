"""The tables. Every row that belongs to a tenant has a column for it.

Times are the database's (``now()``), as clocks of workers and gateways may be wrong.
"""

from datetime import date, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    LargeBinary,
    MetaData,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, column_property, mapped_column

Json = dict[str, Any]


class Table(DeclarativeBase):
    """The root of all tables, with constraint names that migrations can rely on."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 (SQLAlchemy's own protocol)
        str: Text,
        int: BigInteger,
        float: Double,
        datetime: DateTime(timezone=True),
        Json: JSONB(none_as_null=True),
        list[Json]: JSONB(none_as_null=True),
        list[str]: ARRAY(Text),
        bytes: LargeBinary,
    }


class Leased:
    """A row on which one worker at a time works.

    ``lease_token`` counts the leases of the row so far; a write with an older token is rejected (a
    fencing token). A row without ``lease_expires_at`` is free.
    """

    lease_token: Mapped[int] = mapped_column(default=0, server_default="0")
    lease_owner: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    not_before: Mapped[datetime] = mapped_column(server_default=func.now())


class BlobRow(Table):
    """Bytes in the storage, named by their SHA-256; all rows that reference them share them."""

    __tablename__ = "blobs"

    sha256: Mapped[str] = mapped_column(primary_key=True)
    size_bytes: Mapped[int]
    touched_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ApiKeyRow(Table):
    """An API key of a tenant. Only the hash of the key is stored."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    name: Mapped[str]
    hash: Mapped[bytes] = mapped_column(unique=True)
    scopes: Mapped[list[str]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class BrowserSessionRow(Table):
    """A person who has logged in with a key. Only the hash of the cookie's token is stored."""

    __tablename__ = "browser_sessions"

    hash: Mapped[bytes] = mapped_column(primary_key=True)
    key_id: Mapped[str] = mapped_column(ForeignKey("api_keys.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime] = mapped_column(index=True)


class ModelRow(Leased, Table):
    """An uploaded model."""

    __tablename__ = "models"
    __table_args__ = (
        CheckConstraint("status in ('inspecting', 'ready', 'rejected')", "status"),
        Index("ix_models_list", "tenant", text("created_at DESC"), text("id DESC")),
        Index("ix_models_waiting", "not_before", postgresql_where=text("status = 'inspecting'")),
        Index(
            "ix_models_turn", "tenant", "created_at", postgresql_where=text("status = 'inspecting'")
        ),
        Index(
            "ix_models_leased",
            "lease_expires_at",
            postgresql_where=text("lease_expires_at IS NOT NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    name: Mapped[str | None]
    filename: Mapped[str | None]
    status: Mapped[str] = mapped_column(default="inspecting")
    problem: Mapped[Json | None]
    sha256: Mapped[str] = mapped_column(ForeignKey("blobs.sha256"), index=True)
    size_bytes: Mapped[int]
    onnx_sha256: Mapped[str | None] = mapped_column(ForeignKey("blobs.sha256"), index=True)
    graph_sha256: Mapped[str | None] = mapped_column(ForeignKey("blobs.sha256"), index=True)
    copies_bytes: Mapped[int] = mapped_column(default=0, server_default="0")
    """The bytes of both graphs, where they are not the uploaded bytes themselves."""
    description: Mapped[Json | None] = mapped_column()
    outline: Mapped[Json | None] = column_property(
        func.jsonb_set(
            description.op("-")(text("'{nodes,distributions}'::text[]")),
            text("'{layers}'"),
            text("'[]'::jsonb"),
            type_=JSONB,
        ),
        deferred=True,
    )
    """The description without layers and figures to draw, which may be very large."""
    hints: Mapped[Json] = mapped_column(default=dict, server_default=text("'{}'::jsonb"))
    """The hints of the user on the upload: a ``ModelHints``."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    used_at: Mapped[datetime | None]
    """When a job last used it, to a day."""


class DatasetRow(Leased, Table):
    """An uploaded dataset."""

    __tablename__ = "datasets"
    __table_args__ = (
        CheckConstraint("status in ('inspecting', 'ready', 'rejected')", "status"),
        Index("ix_datasets_list", "tenant", text("created_at DESC"), text("id DESC")),
        Index("ix_datasets_waiting", "not_before", postgresql_where=text("status = 'inspecting'")),
        Index(
            "ix_datasets_turn",
            "tenant",
            "created_at",
            postgresql_where=text("status = 'inspecting'"),
        ),
        Index(
            "ix_datasets_leased",
            "lease_expires_at",
            postgresql_where=text("lease_expires_at IS NOT NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    name: Mapped[str | None]
    filename: Mapped[str | None]
    images: Mapped[Json]
    status: Mapped[str] = mapped_column(default="inspecting")
    problem: Mapped[Json | None]
    sha256: Mapped[str] = mapped_column(ForeignKey("blobs.sha256"), index=True)
    size_bytes: Mapped[int]
    description: Mapped[Json | None] = mapped_column()
    outline: Mapped[Json | None] = column_property(
        description.op("-", return_type=JSONB())(text("'glimpses'")), deferred=True
    )
    """The description without its samples, which are pictures."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    used_at: Mapped[datetime | None]
    """When a job last used it, to a day."""


class FetchRow(Leased, Table):
    """A model or dataset whose bytes are still to be fetched; deleted when they are here.

    Until then its row waits for no inspection, and has no bytes: ``size_bytes`` is 0.
    """

    __tablename__ = "fetches"
    __table_args__ = (
        CheckConstraint("kind in ('model', 'dataset')", "kind"),
        Index("ix_fetches_tenant", "tenant"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    """Of the model or dataset."""
    kind: Mapped[str]
    tenant: Mapped[str]
    url: Mapped[str]
    sha256: Mapped[str | None]
    """The digest that the bytes must have."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class UploadRow(Table):
    """A resumable upload, before a model or dataset is made of it."""

    __tablename__ = "uploads"
    __table_args__ = (Index("ix_uploads_tenant", "tenant"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    length: Mapped[int]
    offset: Mapped[int] = mapped_column(default=0, server_default="0")
    parts: Mapped[int] = mapped_column(default=0, server_default="0")
    metadata_: Mapped[str] = mapped_column("metadata")
    """The header ``Upload-Metadata`` as it was received."""
    filename: Mapped[str | None]
    sha256: Mapped[str | None] = mapped_column(index=True)
    """The SHA-256 of the blob, once a model or dataset was made of it."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime] = mapped_column(index=True)


class UploadPartRow(Table):
    """The bytes of one request of an upload, stored as one object."""

    __tablename__ = "upload_parts"

    upload_id: Mapped[str] = mapped_column(
        ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True
    )
    start: Mapped[int] = mapped_column(primary_key=True)
    size_bytes: Mapped[int]
    sha256: Mapped[str]
    key: Mapped[str]


class JobRow(Leased, Table):
    """A compression job."""

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint(
            "status in ('queued', 'running', 'succeeded', 'failed', 'cancelled')", "status"
        ),
        CheckConstraint("progress between 0 and 1", "progress"),
        Index("ix_jobs_list", "tenant", text("created_at DESC"), text("id DESC")),
        Index("ix_jobs_status", "tenant", "status", text("created_at DESC"), text("id DESC")),
        Index("ix_jobs_waiting", "created_at", "id", postgresql_where=text("status = 'queued'")),
        Index(
            "ix_jobs_turn",
            "tenant",
            text("priority DESC"),
            "created_at",
            "id",
            postgresql_where=text("status = 'queued'"),
        ),
        Index(
            "ix_jobs_leased",
            "lease_expires_at",
            postgresql_where=text("lease_expires_at IS NOT NULL"),
        ),
        Index("ix_jobs_active", "tenant", postgresql_where=text("status in ('queued', 'running')")),
        Index(
            "ix_jobs_searching",
            "id",
            postgresql_where=text("search IS NOT NULL AND status in ('queued', 'running')"),
        ),
        Index("ix_jobs_parent", "parent_id", postgresql_where=text("parent_id IS NOT NULL")),
        Index("ix_jobs_model", "model_id"),
        Index("ix_jobs_dataset", "dataset_id"),
        Index(
            "ix_jobs_finished",
            "finished_at",
            "id",
            postgresql_where=text("finished_at IS NOT NULL"),
        ),
        Index("ix_jobs_tags", "tags", postgresql_using="gin"),
        Index(
            "ix_jobs_likeness",
            "tenant",
            "likeness",
            text("finished_at DESC"),
            postgresql_where=text("likeness IS NOT NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    name: Mapped[str | None]
    tags: Mapped[list[str]]
    request: Mapped[Json]
    """The request with every default filled in, without the webhook's secret."""
    model_id: Mapped[str]
    dataset_id: Mapped[str | None]
    parent_id: Mapped[str | None]
    """Of a trial: the search that filed it. Whoever deletes a search deletes its trials."""
    search: Mapped[Json | None]
    """Of a search: how far it is, a ``SearchState``. It is run by nobody: its trials are."""
    priority: Mapped[int] = mapped_column(default=0, server_default="0")
    """The priority within the tenant; a higher one starts earlier."""
    requires_device: Mapped[str | None]
    """The kind of device that its worker must have."""
    requires_labels: Mapped[list[str]] = mapped_column(default=list, server_default=text("'{}'"))
    """The labels that its worker must have."""
    status: Mapped[str] = mapped_column(default="queued")
    stage: Mapped[str] = mapped_column(default="queued")
    progress: Mapped[float] = mapped_column(default=0.0)
    eta_seconds: Mapped[float | None]
    cancel_requested: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    problem: Mapped[Json | None]
    baseline: Mapped[Json | None]
    compressed: Mapped[Json | None]
    evaluation: Mapped[Json | None] = mapped_column(deferred=True, deferred_group="report")
    verdict: Mapped[str | None]
    manifest: Mapped[Json | None] = mapped_column(deferred=True, deferred_group="report")
    cpu_seconds: Mapped[float] = mapped_column(default=0.0, server_default="0")
    gpu_seconds: Mapped[float] = mapped_column(default=0.0, server_default="0")
    peak_memory_bytes: Mapped[int] = mapped_column(default=0, server_default="0")
    running_seconds: Mapped[float] = mapped_column(default=0.0, server_default="0")
    """The running time of ended attempts; ``limits.running_minutes`` bounds it."""
    spent_attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    """The number of attempts before the last retry; each retry has its own number of attempts."""
    likeness: Mapped[str | None]
    """The likeness of the job's model, once the job has figures; see ``app/domain/makeup.py``."""
    last_event: Mapped[int] = mapped_column(default=0, server_default="0")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    queued_at: Mapped[datetime] = mapped_column(server_default=func.now())
    """When it was last queued by its caller: at creation and on retry."""
    claimed_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class TrialRow(Table):
    """What a search knows of a trial besides its job."""

    __tablename__ = "trials"

    search_id: Mapped[str] = mapped_column(
        ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True)
    """In the order in which they were asked for, from 1."""
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), unique=True)
    note: Mapped[Json]
    """What the strategy wants to know of it later."""
    outcome: Mapped[Json | None]
    """What it came to, once the search was told."""


class SensitivityRow(Table):
    """The chart of a model's sensitivity on a dataset, under the conditions that it holds for."""

    __tablename__ = "sensitivities"

    model_id: Mapped[str] = mapped_column(
        ForeignKey("models.id", ondelete="CASCADE"), primary_key=True
    )
    dataset_id: Mapped[str] = mapped_column(primary_key=True)
    conditions: Mapped[str] = mapped_column(primary_key=True)
    """The processor, the threads and the runtime, in words."""
    job_id: Mapped[str]
    """The job that measured it; it may be deleted."""
    chart: Mapped[Json]
    measured_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class UsageRow(Table):
    """The usage of a tenant on a day, in UTC. It stays when its jobs are deleted."""

    __tablename__ = "usage_days"

    tenant: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    cpu_seconds: Mapped[float] = mapped_column(default=0.0, server_default="0")
    gpu_seconds: Mapped[float] = mapped_column(default=0.0, server_default="0")
    jobs: Mapped[int] = mapped_column(default=0, server_default="0")
    """The number of jobs that ended."""
    stored_bytes: Mapped[int] = mapped_column(default=0, server_default="0")
    """The largest number of stored bytes, measured when an upload or a job ended."""


class StepRow(Table):
    """A finished step of a job, which is not repeated."""

    __tablename__ = "steps"
    __table_args__ = (
        Index("ix_steps_key", "tenant", "key", postgresql_where=text("key IS NOT NULL")),
    )

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    index: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[str | None]
    """The job's; None in rows of earlier versions."""
    graph_sha256: Mapped[str | None] = mapped_column(ForeignKey("blobs.sha256"), index=True)
    """None if it was deleted because the job ended long ago."""
    size_bytes: Mapped[int] = mapped_column(default=0, server_default="0")
    """The size of the graph; 0 in rows of earlier versions."""
    key: Mapped[str | None]
    """A hash of all that the result follows from; see ``earlier_steps``."""
    finished: Mapped[Json]
    """The ``FinishedStep`` that the engine needs to continue from it."""
    report: Mapped[Json | None]
    """The report for users, measured when all steps are done."""


class EventRow(Table):
    """One event of a job's stream; ``number`` counts up within the job."""

    __tablename__ = "events"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    data: Mapped[Json]
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class ArtifactRow(Table):
    """A file that the user downloads."""

    __tablename__ = "artifacts"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(index=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    format: Mapped[str]
    filename: Mapped[str]
    sha256: Mapped[str] = mapped_column(ForeignKey("blobs.sha256"), index=True)
    size_bytes: Mapped[int]
    runtime: Mapped[str | None]
    ran: Mapped[bool] = mapped_column(default=True, server_default=text("true"))
    reason: Mapped[str | None]
    max_error: Mapped[float | None]
    latency_ms: Mapped[float | None]
    quality: Mapped[Json | None]
    fidelity: Mapped[Json | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class IdempotencyRow(Table):
    """The answer to a POST that carried an Idempotency-Key."""

    __tablename__ = "idempotency"

    tenant: Mapped[str] = mapped_column(primary_key=True)
    method: Mapped[str] = mapped_column(primary_key=True)
    path: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    body_sha256: Mapped[bytes]
    status: Mapped[int]
    body: Mapped[bytes]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)


class WebhookRow(Table):
    """A webhook; with a ``job_id`` it is the one-off webhook of that job."""

    __tablename__ = "webhooks"
    __table_args__ = (
        Index("ix_webhooks_list", "tenant", text("created_at DESC"), text("id DESC")),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    job_id: Mapped[str | None] = mapped_column(
        ForeignKey("jobs.id", ondelete="CASCADE"), index=True
    )
    url: Mapped[str]
    events: Mapped[list[str]]
    description: Mapped[str | None]
    enabled: Mapped[bool] = mapped_column(default=True)
    disabled_reason: Mapped[str | None]
    secret: Mapped[str]
    previous_secret: Mapped[str | None]
    previous_secret_expires_at: Mapped[datetime | None]
    failing_since: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class DeliveryRow(Leased, Table):
    """One message to one webhook, written in the transaction of its event."""

    __tablename__ = "deliveries"
    __table_args__ = (
        CheckConstraint("status in ('pending', 'delivered', 'failed')", "status"),
        Index("ix_deliveries_list", "webhook_id", text("created_at DESC"), text("id DESC")),
        Index("ix_deliveries_settled", "created_at", postgresql_where=text("status <> 'pending'")),
        Index("ix_deliveries_due", "not_before", postgresql_where=text("status = 'pending'")),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    webhook_id: Mapped[str] = mapped_column(
        ForeignKey("webhooks.id", ondelete="CASCADE"), index=True
    )
    job_id: Mapped[str | None]
    event: Mapped[str]
    message_id: Mapped[str]
    """``webhook-id``: the same on every retry and redelivery."""
    payload: Mapped[str]
    """The exact body that is signed."""
    status: Mapped[str] = mapped_column(default="pending")
    log: Mapped[list[Json]] = mapped_column(default=list)
    """Attempts: ``{at, response_status, duration_ms, error?}``."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class CounterRow(Table):
    """An amount that was added to a figure; the figure is the sum of its rows."""

    __tablename__ = "counters"
    __table_args__ = (Index("ix_counters_name", "name", "label"),)

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    name: Mapped[str]
    label: Mapped[str]
    value: Mapped[float]


class TurnRow(Table):
    """When a tenant last had a turn, in the virtual time of one kind of work."""

    __tablename__ = "turns"
    __table_args__ = (CheckConstraint("kind in ('job', 'upload')", "kind"),)

    kind: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(primary_key=True)
    start: Mapped[float]


class ChoreRow(Table):
    """Periodic work that one worker does for all."""

    __tablename__ = "chores"

    name: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str]
    until: Mapped[datetime]
    """When another worker may take it over, if the owner has not renewed its hold."""
    done_at: Mapped[datetime | None]


class WorkerRow(Table):
    """A worker process that has announced itself."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(primary_key=True)
    hostname: Mapped[str]
    pid: Mapped[int]
    queue: Mapped[str]
    device: Mapped[str]
    labels: Mapped[list[str]] = mapped_column(default=list, server_default=text("'{}'"))
    capabilities: Mapped[Json | None]
    confinement: Mapped[Json | None]
    unable: Mapped[str | None]
    """The reason if it takes no jobs: its test job did not complete."""
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    seen_at: Mapped[datetime] = mapped_column(server_default=func.now())
    claimed_at: Mapped[datetime | None]
