"""What the steps of jobs have measured of their model: the graphs that they chose from, layers."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.store.tables import JobRow, StepRow

MOST = 20
"""The greatest number of steps that are shown; a search has many trials."""


def latest(session: Session, tenant: str, model_id: str) -> list[tuple[JobRow, StepRow]]:
    """Return the steps that chose among graphs, the newest job first, each with its job.

    A search has the steps of its best trial and asked for none: they stand with the trial.
    """
    choices = func.jsonb_array_length(StepRow.finished["choices"])
    query = (
        select(JobRow, StepRow)
        .join(StepRow, StepRow.job_id == JobRow.id)
        .where(
            JobRow.tenant == tenant,
            JobRow.model_id == model_id,
            JobRow.search.is_(None),
            choices > 0,
        )
        .order_by(JobRow.created_at.desc(), JobRow.id, StepRow.index)
        .limit(MOST)
    )
    return [(job, step) for job, step in session.execute(query)]
