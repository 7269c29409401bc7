"""Files of jobs: what they are called in the directory of whoever downloads them."""

from collections.abc import Callable
from functools import partial

from sqlalchemy.orm import Session

from app.domain import job_names
from app.domain.jobs import JobRequest
from app.domain.problems import NotFound
from app.services.jobs import find
from app.store import jobs, lookup
from app.store.tables import ArtifactRow, JobRow


def artifact(session: Session, tenant: str, artifact_id: str) -> tuple[str, int, str]:
    """Return digest, size and name of an artifact, or raise NotFound."""
    row = lookup.find(session, ArtifactRow, tenant, artifact_id)
    if row is None:
        raise NotFound(f"There is no artifact {artifact_id!r}.")
    job = lookup.require(session, JobRow, tenant, row.job_id)
    return row.sha256, row.size_bytes, _names(session, job)(row.filename)


def names_of(session: Session, tenant: str, job_id: str) -> dict[str, str]:
    """Return the names of a job's artifacts, by their ids, or raise NotFound."""
    job = find(session, tenant, job_id)
    named = _names(session, job)
    return {row.id: named(row.filename) for row in jobs.artifacts(session, [job.id])[job.id]}


def name_of_report(session: Session, tenant: str, job_id: str) -> str:
    """Return the name of a job's report, or raise NotFound."""
    return _names(session, find(session, tenant, job_id))("report.json")


def _names(session: Session, job: JobRow) -> Callable[[str], str]:
    """Return what names a file for its download, given the name that it has in the job."""
    request = JobRequest.model_validate(job.request)
    called = jobs.model_names(session, [job.model_id]).get(job.model_id)
    return partial(job_names.file_name, called, job.name, request, job.id)
