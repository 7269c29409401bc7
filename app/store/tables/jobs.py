"""Jobs, their steps and events, and what they have made."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.store.tables.base import Json, Run, Table, Traced


class JobRow(Run, Traced, Table):
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
    """The number of attempts that are not counted any more: those before the last retry, and those
    whose worker went silent."""
    likeness: Mapped[str | None]
    """The likeness of the job's model, once the job has figures; see ``app/domain/makeup.py``."""
    last_event: Mapped[int] = mapped_column(default=0, server_default="0")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    queued_at: Mapped[datetime] = mapped_column(server_default=func.now())
    """When it was last queued by its caller: at creation and on retry."""
    claimed_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


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


class MadeSamplesRow(Table):
    """Samples that were made from a model once, for all runs of a job or trials of a search."""

    __tablename__ = "made_samples"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    """The job that they belong to: of trials, their search."""
    tenant: Mapped[str]
    sha256: Mapped[str] = mapped_column(ForeignKey("blobs.sha256"), index=True)
    size_bytes: Mapped[int]
    generated: Mapped[Json]
    """A ``Generated``: how they were made."""


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


class PriceListRow(Table):
    """What steps that choose among forms have measured of a model's graph."""

    __tablename__ = "price_lists"

    tenant: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    """A hash of all that the prices follow from; see ``price_lists``."""
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id", ondelete="CASCADE"), index=True)
    sha256: Mapped[str] = mapped_column(ForeignKey("blobs.sha256"), index=True)
    size_bytes: Mapped[int]
    measured_at: Mapped[datetime] = mapped_column(server_default=func.now())
    """When the first prices were measured; later ones are added to them."""


class LayerTimeRow(Table):
    """The time of one layer by itself, under the conditions that it holds for."""

    __tablename__ = "layer_times"

    tenant: Mapped[str] = mapped_column(primary_key=True)
    conditions: Mapped[str] = mapped_column(primary_key=True)
    """The hardware, the threads, the runtime and the versions, in words."""
    form: Mapped[str] = mapped_column(primary_key=True)
    """A digest of operator, attributes and shapes; see ``app/domain/layer_times.py``."""
    milliseconds: Mapped[float]
    measured_at: Mapped[datetime] = mapped_column(server_default=func.now())
