"""Models: add, show, delete."""

from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import Session, defer, undefer

from app.domain import ids, job_names
from app.domain.models import Model, ModelDescription, ModelFormat, ModelHints
from app.domain.problems import Conflict
from app.domain.references import ModelReference
from app.services import uploads
from app.services.listing import Part, Walk, part
from app.settings import Settings
from app.store import blob_rows, jobs, lookup, quotas
from app.store.tables import ModelRow
from app.store.views import model_view


def new(tenant: str, name: str | None, filename: str | None, hints: ModelHints) -> ModelRow:
    """Return a model that has no bytes yet, and is not stored."""
    return ModelRow(
        id=ids.new("mdl"),
        tenant=tenant,
        name=name,
        filename=uploads.clean_filename(filename),
        status="inspecting",
        hints=hints.model_dump(mode="json", exclude_none=True),
    )


def referred(tenant: str, reference: ModelReference) -> ModelRow:
    """Return the model that an address names; it has no bytes yet, and is not stored."""
    hints = ModelHints(
        architecture=reference.architecture, inputs=reference.inputs, cache=reference.cache
    )
    return new(tenant, reference.name, reference.filename, hints)


def asked_for(row: ModelRow) -> dict[str, Any]:
    """Return what a rejected upload may be read again with, and what was said of it before.

    Its problem names what it lacks, as the API calls it; what came with the upload may be wrong.
    """
    if row.status != "rejected" or not row.size_bytes:
        return {}
    detail = str((row.problem or {}).get("detail"))
    return {
        name: row.hints.get(name)
        for name in ModelHints.model_fields
        if row.hints.get(name) or f"{name}=" in detail or f"'{name}'" in detail
    }


def read_again(
    session: Session, settings: Settings, tenant: str, model_id: str, hints: ModelHints
) -> ModelRow:
    """Take in a rejected upload once more, with what its file does not tell.

    Raises:
        NotFound: It is not the tenant's.
        Conflict: It was not rejected.
        TooManyRequests: The tenant's storage quota does not hold it twice.
    """
    row = find(session, tenant, model_id, "keep")
    if row.status != "rejected":
        raise Conflict(f"The model is {row.status}: only a rejected one is read again.")
    _require_bytes(row)
    quotas.require_room(session, settings, tenant, row.size_bytes)
    again = new(tenant, row.name, row.filename, hints)
    return uploads.keep(session, again, row.sha256, row.size_bytes)


def find(session: Session, tenant: str, model_id: str, lock: lookup.Lock | None = None) -> ModelRow:
    """Return a model of the tenant, or raise NotFound."""
    return lookup.require(session, ModelRow, tenant, model_id, lock)


SUFFIXES: dict[ModelFormat, str] = {
    "onnx": ".onnx",
    "keras": ".keras",
    "torchscript": ".pt",
    "torch_export": ".pt2",
    "safetensors": ".safetensors",
    "huggingface": ".zip",
}
"""The suffix of the name of a downloaded upload that has no name of its own."""


def of_tenant(tenant: str) -> Select[ModelRow]:
    """Select the tenant's models, with the outline of each in place of its description."""
    outlined = (defer(ModelRow.description), undefer(ModelRow.outline))
    return select(ModelRow).where(ModelRow.tenant == tenant).options(*outlined)


def show(session: Session, tenant: str, model_id: str) -> Model:
    """Return a model as clients see it, or raise NotFound."""
    return view(find(session, tenant, model_id))


def view(row: ModelRow) -> Model:
    """Return a model as clients see it."""
    return model_view(row)


def look(session: Session, tenant: str, model_id: str) -> tuple[Model, ModelDescription | None]:
    """Return a model and its whole description, None before the inspection."""
    row = find(session, tenant, model_id)
    return view(row), described(row)


def listed(session: Session, tenant: str, walk: Walk) -> Part[Model]:
    """Return a part of the tenant's models."""
    return part(session, walk, of_tenant(tenant), ModelRow, lambda rows: [*map(view, rows)])


def delete(session: Session, tenant: str, model_id: str) -> None:
    """Delete a model; its jobs and their artifacts stay.

    Raises:
        NotFound: It is not the tenant's.
        Conflict: A queued or running job uses it.
    """
    row = find(session, tenant, model_id, "change")
    uploads.remove(session, row, jobs.using_model(session, row.id))


def described(row: ModelRow) -> ModelDescription | None:
    """Return the description by the inspection, or None before it."""
    return None if row.description is None else ModelDescription.model_validate(row.description)


def stored(session: Session, tenant: str, model_id: str, form: str) -> tuple[str, int, str]:
    """Return digest, size and a file name of the uploaded bytes, or of the self-contained graph.

    Raises:
        NotFound: It is not the tenant's.
        Conflict: There is no graph: inspection has not finished, or rejected the model.
    """
    row = find(session, tenant, model_id)
    if form == "upload":
        _require_bytes(row)
        description = described(row)
        suffix = SUFFIXES[description.format] if description else ""
        return row.sha256, row.size_bytes, row.filename or row.id + suffix
    if row.onnx_sha256 is None:
        raise Conflict(f"The model is {row.status}: there is no graph of it to download.")
    size_bytes = blob_rows.size_of(session, row.onnx_sha256)
    return row.onnx_sha256, size_bytes, f"{job_names.stem(row.name or row.filename) or row.id}.onnx"


def _require_bytes(row: ModelRow) -> None:
    if not row.size_bytes:
        raise Conflict(f"The model is {row.status}: its bytes have not come from its address.")
