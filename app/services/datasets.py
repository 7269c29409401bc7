"""Datasets: add, show, delete."""

from sqlalchemy import Select, inspect, select
from sqlalchemy.orm import Session, defer, undefer

from app.blobs import Incoming
from app.domain import ids
from app.domain.datasets import Dataset, DatasetDescription, ImageOptions
from app.domain.problems import Conflict, NotFound
from app.domain.references import DatasetReference
from app.services import references, uploads
from app.settings import Settings
from app.store import fetches, jobs, lookup
from app.store.tables import DatasetRow


def add(
    session: Session,
    incoming: Incoming,
    *,
    tenant: str,
    name: str | None,
    filename: str | None,
    images: ImageOptions,
) -> DatasetRow:
    """Add a dataset whose bytes are published, with room reserved; a worker inspects it.

    Raises:
        Unavailable: The bytes were not used for so long that they were deleted.
    """
    row = _new(tenant, name, filename, images)
    return uploads.keep(session, row, incoming.sha256, incoming.size_bytes)


def add_reference(
    session: Session, settings: Settings, tenant: str, reference: DatasetReference
) -> DatasetRow:
    """Add a dataset that a worker fetches from its address, and then inspects.

    Raises:
        Invalid, NotAvailable: Nothing may be fetched from there.
        TooManyRequests: The tenant waits for as many files as it may.
    """
    address = references.check(settings, tenant, reference.url)
    images = ImageOptions(mean=reference.mean, std=reference.std)
    row = _new(tenant, reference.name, reference.filename or address.filename, images)
    references.add(session, settings, row, reference.source)
    return row


def find(
    session: Session, tenant: str, dataset_id: str, lock: lookup.Lock | None = None
) -> DatasetRow:
    """Return a dataset of the tenant, or raise NotFound."""
    row = lookup.find(session, DatasetRow, tenant, dataset_id, lock)
    if row is None:
        raise NotFound(f"There is no dataset {dataset_id!r}.")
    return row


def of_tenant(tenant: str) -> Select[DatasetRow]:
    """Select the tenant's datasets, with the outline of each in place of its description."""
    outlined = (defer(DatasetRow.description), undefer(DatasetRow.outline))
    return select(DatasetRow).where(DatasetRow.tenant == tenant).options(*outlined)


def delete(session: Session, tenant: str, dataset_id: str) -> None:
    """Delete a dataset; its jobs and their artifacts stay.

    Raises:
        NotFound: It is not the tenant's.
        Conflict: A queued or running job uses it.
    """
    row = find(session, tenant, dataset_id, "change")
    if user := jobs.using_dataset(session, row.id):
        raise Conflict(f"Job {user} still uses the dataset: cancel it, or wait until it ends.")
    fetches.forget(session, row.id)
    session.delete(row)


def view(row: DatasetRow) -> Dataset:
    """Return a dataset as clients see it."""
    description = _outline(row)
    return Dataset.model_validate(
        {
            "id": row.id,
            "name": row.name,
            "filename": row.filename,
            "format": description and description.format,
            "status": row.status,
            "problem": row.problem,
            "sha256": row.sha256 if row.size_bytes else "",
            "size_bytes": row.size_bytes,
            "samples": description and description.samples,
            "arrays": description and description.arrays,
            "targets": description and description.targets,
            "created_at": row.created_at,
        }
    )


def described(row: DatasetRow) -> DatasetDescription | None:
    """Return the description by the inspection, or None before it."""
    return None if row.description is None else DatasetDescription.model_validate(row.description)


def _outline(row: DatasetRow) -> DatasetDescription | None:
    """Return the description without the samples, which no view shows."""
    outlined = "description" in inspect(row).unloaded
    stored = row.outline if outlined else row.description
    return None if stored is None else DatasetDescription.model_validate({**stored, "glimpses": []})


def _new(tenant: str, name: str | None, filename: str | None, images: ImageOptions) -> DatasetRow:
    return DatasetRow(
        id=ids.new("dst"),
        tenant=tenant,
        name=name,
        filename=uploads.clean_filename(filename),
        images=images.model_dump(),
        status="inspecting",
    )
