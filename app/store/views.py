"""A job's row as clients see it; the gateway and the webhooks say the same."""

from collections.abc import Iterable

from app.domain.jobs import Artifact, Job, JobRequest, Usage
from app.store.tables import ArtifactRow, JobRow, StepRow


def job_view(
    row: JobRow,
    artifacts: Iterable[ArtifactRow],
    *,
    steps: Iterable[StepRow] | None = None,
    queue_position: int | None = None,
) -> Job:
    """Return the job with its artifacts and, where ``steps`` are given, its step reports."""
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
            "deliver": request.deliver,
            "limits": request.limits,
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
            "artifacts": [artifact_view(artifact) for artifact in artifacts],
            "problem": row.problem,
            "step_reports": None if steps is None else [step.report for step in steps],
        }
    )


def artifact_view(row: ArtifactRow) -> Artifact:
    """Return the artifact with the path that it is downloaded from."""
    return Artifact.model_validate(
        {
            "id": row.id,
            "format": row.format,
            "size_bytes": row.size_bytes,
            "sha256": row.sha256,
            "href": f"/v1/artifacts/{row.id}/content",
        }
    )
