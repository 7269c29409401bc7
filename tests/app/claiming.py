"""A worker that claims a job, as tests of the store have it: in one transaction."""

from sqlalchemy.orm import Session

from app.store import claims, turns
from tests.app.service import Service

CPU = claims.WorkerOffer("cpu")
MAKER = "this machine, these versions"


def claim_job(
    session: Session, job_id: str, owner: str, seconds: float, maker: str | None = None
) -> claims.Claim | None:
    """Take a job and begin it; return None if there is nothing to run."""
    taken = claims.take(session, job_id, owner, seconds)
    return None if taken is None else claims.begin(session, taken, maker)


def claim_next(service: Service, maker: str | None = MAKER) -> claims.Claim:
    """Let a worker claim the next job."""
    with service.store.begin() as session:
        job_id = turns.next_job(session, CPU, {})
        assert job_id is not None
        claimed = claim_job(session, job_id, "w", 60, maker)
        assert claimed is not None
        return claimed
