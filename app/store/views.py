"""A job's row as clients see it; the gateway and the webhooks say the same."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Row

from app.domain.jobs import Job, JobRequest, Usage
from app.store.tables import ArtifactRow, JobRow, Json


def job_view(
    row: JobRow | Row[*tuple[Any, ...]],
    artifacts: Iterable[ArtifactRow | Json],
    *,
    step_reports: Iterable[Json] | None = None,
    queue_position: int | None = None,
) -> Job:
    """Return the job with its artifacts and, where they are given, its step reports."""
    request = JobRequest.model_validate(row.request)
    return Job.model_validate(
        {
            "id": row.id,
            "status": row.status,
            "stage": row.stage,
            "progress": row.progress,
            "model": row.model_id,
            "dataset": row.dataset_id,
            "name": row.name,
            "tags": row.tags,
            "steps": request.steps,
            "evaluate": request.evaluate,
            "require": request.require,
            "target": request.target,
            "deliver": request.deliver,
            "limits": request.limits,
            "priority": request.priority,
            "requires": request.requires,
            "seed": request.seed,
            "created_at": row.created_at,
            "started_at": row.started_at,
            "finished_at": row.finished_at,
            "attempts": row.attempts,
            "queue_position": queue_position,
            "eta_seconds": row.eta_seconds,
            "usage": Usage(
                cpu_seconds=row.cpu_seconds,
                gpu_seconds=row.gpu_seconds,
                peak_memory_bytes=row.peak_memory_bytes,
            ),
            "baseline": row.baseline,
            "compressed": row.compressed,
            "verdict": row.verdict,
            "artifacts": list(artifacts),
            "problem": row.problem,
            "step_reports": None if step_reports is None else list(step_reports),
        }
    )
