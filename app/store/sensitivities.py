"""Charts of sensitivity: kept with their model, by dataset and conditions."""

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.domain.sensitivity import Sensitivity
from app.store.tables import JobRow, ModelRow, SensitivityRow


def keep(session: Session, job: JobRow, chart: Sensitivity) -> None:
    """Store what a job measured of its model, in the place of what was measured alike before."""
    job.verdict = chart.summary
    samples = job.dataset_id or job.request.get("data")
    if samples is None or session.get(ModelRow, job.model_id) is None:
        return
    row = insert(SensitivityRow).values(
        model_id=job.model_id,
        dataset_id=samples,
        conditions=chart.conditions,
        job_id=job.id,
        chart=chart.model_dump(mode="json"),
    )
    fresh = {
        "job_id": row.excluded.job_id,
        "chart": row.excluded.chart,
        "measured_at": func.clock_timestamp(),
    }
    key = [SensitivityRow.model_id, SensitivityRow.dataset_id, SensitivityRow.conditions]
    session.execute(row.on_conflict_do_update(index_elements=key, set_=fresh))


def latest(session: Session, model_id: str, dataset: str | None = None) -> SensitivityRow | None:
    """Return the latest chart of a model, or of the model on a dataset or on generated samples."""
    query = select(SensitivityRow).where(SensitivityRow.model_id == model_id)
    if dataset is not None:
        query = query.where(SensitivityRow.dataset_id == dataset)
    found: SensitivityRow | None = session.scalars(
        query.order_by(SensitivityRow.measured_at.desc()).limit(1)
    ).one_or_none()
    return found
