"""Datasets: add, show, delete."""

from sqlalchemy import Select, inspect, select
from sqlalchemy.orm import Session, defer, undefer

from app.domain import ids
from app.domain.datasets import Dataset, DatasetDescription, ImageOptions
from app.domain.references import DatasetReference
from app.services import uploads
from app.services.listing import Part, Walk, part
from app.store import jobs, lookup
from app.store.tables import DatasetRow


def new(tenant: str, name: str | None, filename: str | None, images: ImageOptions) -> DatasetRow:
    """Return a dataset that has no bytes yet, and is not stored."""
    return DatasetRow(
        id=ids.new("dst"),
        tenant=tenant,
        name=name,
        filename=uploads.clean_filename(filename),
        images=images.model_dump(),
        status="inspecting",
    )


def referred(tenant: str, reference: DatasetReference) -> DatasetRow:
    """Return the dataset that an address names; it has no bytes yet, and is not stored."""
    images = ImageOptions(mean=reference.mean, std=reference.std)
    return new(tenant, reference.name, reference.filename, images)


def find(
    session: Session, tenant: str, dataset_id: str, lock: lookup.Lock | None = None
) -> DatasetRow:
    """Return a dataset of the tenant, or raise NotFound."""
    return lookup.require(session, DatasetRow, tenant, dataset_id, lock)


def of_tenant(tenant: str) -> Select[DatasetRow]:
    """Select the tenant's datasets, with the outline of each in place of its description."""
    outlined = (defer(DatasetRow.description), undefer(DatasetRow.outline))
    return select(DatasetRow).where(DatasetRow.tenant == tenant).options(*outlined)


def listed(session: Session, tenant: str, walk: Walk) -> Part[Dataset]:
    """Return a part of the tenant's datasets."""
    return part(session, walk, of_tenant(tenant), DatasetRow, lambda rows: [*map(view, rows)])


def show(session: Session, tenant: str, dataset_id: str) -> Dataset:
    """Return a dataset as clients see it, or raise NotFound."""
    return view(find(session, tenant, dataset_id))


def delete(session: Session, tenant: str, dataset_id: str) -> None:
    """Delete a dataset; its jobs and their artifacts stay.

    Raises:
        NotFound: It is not the tenant's.
        Conflict: A queued or running job uses it.
    """
    row = find(session, tenant, dataset_id, "change")
    uploads.remove(session, row, jobs.using_dataset(session, row.id))


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
