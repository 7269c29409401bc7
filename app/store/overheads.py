"""What jobs take besides their steps: reading, writing, and measuring what came of it.

Of a small model this is most of a job's time. It is not computed: the jobs that a tenant has
finished say how long it took here.
"""

from statistics import median

from sqlalchemy import bindparam, func, select
from sqlalchemy.orm import Session

from app.store.tables import JobRow, StepRow

BEFORE_ANY = 15.0
"""Seconds that are expected before a tenant's first job has ended: those of a small model on two
cores."""

_LATEST = 50
"""Jobs that are looked at."""

_IN_STEPS = (
    select(func.coalesce(func.sum(StepRow.finished["seconds"].as_float()), 0.0))
    .where(StepRow.job_id == JobRow.id)
    .scalar_subquery()
)
_BESIDES = (
    select(JobRow.model_id, JobRow.running_seconds - _IN_STEPS)
    .where(
        JobRow.tenant == bindparam("tenant"),
        JobRow.status == "succeeded",
        JobRow.compressed.is_not(None),
        JobRow.search.is_(None),
        JobRow.running_seconds > 0,
        JobRow.request["data"].as_string().is_(None),  # making samples is counted by itself
    )
    .order_by(JobRow.created_at.desc(), JobRow.id.desc())
    .limit(_LATEST)
)


def seconds(session: Session, tenant: str, model_id: str) -> float:
    """Return what a job on a model is expected to take besides its steps, in seconds.

    It is the median of the tenant's latest jobs on this model; where there are none, of all.
    """
    latest = [(model, besides) for model, besides in session.execute(_BESIDES, {"tenant": tenant})]
    on_it = [besides for model, besides in latest if model == model_id]
    found = on_it or [besides for _, besides in latest]
    return max(median(found), 0.0) if found else BEFORE_ANY
