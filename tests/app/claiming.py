"""A worker that claims a job, as tests of the store have it: in one transaction."""

from sqlalchemy.orm import Session

from app.store import claims


def claim_job(
    session: Session, job_id: str, owner: str, seconds: float, maker: str | None = None
) -> claims.Claim | None:
    """Take a job and begin it; return None if there is nothing to run."""
    taken = claims.take(session, job_id, owner, seconds)
    return None if taken is None else claims.begin(session, taken, maker)
