"""Bytes, the models and datasets that are made of them, and how they arrive."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, column_property, mapped_column
from sqlalchemy.schema import SchemaItem

from app.store.tables.base import Json, Run, Table, Traced


class BlobRow(Table):
    """Bytes in the storage, named by their SHA-256; all rows that reference them share them."""

    __tablename__ = "blobs"

    sha256: Mapped[str] = mapped_column(primary_key=True)
    size_bytes: Mapped[int]
    touched_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Inspected(Run, Traced):
    """What models and datasets share: uploaded bytes, which a worker inspects."""

    tenant: Mapped[str]
    name: Mapped[str | None]
    filename: Mapped[str | None]
    status: Mapped[str] = mapped_column(default="inspecting")
    problem: Mapped[Json | None]
    sha256: Mapped[str] = mapped_column(ForeignKey("blobs.sha256"), index=True)
    size_bytes: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    used_at: Mapped[datetime | None]
    """When a job last used it, to a day."""


def _inspected(table: str) -> tuple[SchemaItem, ...]:
    """Return the constraint and the indexes of a table of what is inspected."""
    inspecting = text("status = 'inspecting'")
    return (
        CheckConstraint("status in ('inspecting', 'ready', 'rejected')", "status"),
        Index(f"ix_{table}_list", "tenant", text("created_at DESC"), text("id DESC")),
        Index(f"ix_{table}_waiting", "not_before", postgresql_where=inspecting),
        Index(f"ix_{table}_turn", "tenant", "created_at", postgresql_where=inspecting),
        Index(
            f"ix_{table}_leased",
            "lease_expires_at",
            postgresql_where=text("lease_expires_at IS NOT NULL"),
        ),
    )


class ModelRow(Inspected, Table):
    """An uploaded model."""

    __tablename__ = "models"
    __table_args__ = _inspected("models")

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


class DatasetRow(Inspected, Table):
    """An uploaded dataset."""

    __tablename__ = "datasets"
    __table_args__ = _inspected("datasets")

    images: Mapped[Json]
    description: Mapped[Json | None] = mapped_column()
    outline: Mapped[Json | None] = column_property(
        description.op("-", return_type=JSONB())(text("'glimpses'")), deferred=True
    )
    """The description without its samples, which are pictures."""


class FetchRow(Run, Table):
    """A model or dataset whose bytes are still to be fetched; deleted when they are here.

    Until then its row waits for no inspection, and has no bytes: ``size_bytes`` is 0.
    """

    __tablename__ = "fetches"
    __table_args__ = (
        CheckConstraint("kind in ('model', 'dataset')", "kind"),
        Index("ix_fetches_tenant", "tenant"),
    )

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
    """Empty where a client sent the bytes to the storage, and nobody has read them yet."""
    key: Mapped[str]
