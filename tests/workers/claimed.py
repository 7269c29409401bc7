"""A job that a worker has claimed, without a queue and without the bytes of its model."""

from sqlalchemy.orm import Session

from app.domain import ids
from app.domain.jobs import JobRequest
from app.store import blob_rows
from app.store.claims import Claim
from app.store.tables import ModelRow

SHA256 = "0" * 64


def store_model(session: Session, tenant: str) -> str:
    """Store a model of a tenant, and return its id."""
    blob_rows.touch(session, SHA256, 1)
    session.flush()
    model = ModelRow(id=ids.new("mdl"), tenant=tenant, sha256=SHA256, size_bytes=1)
    session.add(model)
    session.flush()
    return model.id


def claim_of(job_id: str, request: JobRequest) -> Claim:
    """Return the first claim of a job, of which no step is finished."""
    return Claim(
        id=job_id, token=1, attempt=1, request=request, traceparent=None,
        model_sha256=SHA256, model_size_bytes=1, onnx_sha256=SHA256, graph_sha256=SHA256,
        other_models={}, source=None, metric_sha256=None, dataset=None, evaluate_dataset=None,
        steps=(), step_keys=(), price_lists={}, seconds_left=60.0, besides_seconds=10.0,
        expected=None, of_trial=False, made_samples=None,
    )  # fmt: skip
