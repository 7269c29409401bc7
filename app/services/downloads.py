"""Files of jobs: what they are called in the directory of whoever downloads them."""

from sqlalchemy.orm import Session

from app.domain.problems import NotFound
from app.services.jobs import find, names_of
from app.store import lookup
from app.store.tables import ArtifactRow, JobRow


def artifact(session: Session, tenant: str, artifact_id: str) -> tuple[str, int, str]:
    """Return digest, size and name of an artifact, or raise NotFound."""
    row = lookup.find(session, ArtifactRow, tenant, artifact_id)
    if row is None:
        raise NotFound(f"There is no artifact {artifact_id!r}.")
    job = lookup.require(session, JobRow, tenant, row.job_id)
    return row.sha256, row.size_bytes, names_of(session, job)(row.filename)


def name_of_report(session: Session, tenant: str, job_id: str) -> str:
    """Return the name of a job's report, or raise NotFound."""
    return names_of(session, find(session, tenant, job_id))("report.json")
