"""Views of jobs and models for clients, the same for the gateway and for webhooks."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from sqlalchemy import Row, inspect

from app.domain import job_names
from app.domain.job_answers import Artifact, Job
from app.domain.jobs import JobRequest, Usage
from app.domain.models import Model, ModelDescription
from app.domain.reports import Measures, ruined
from app.domain.searches import Outcome, SearchPoint, SearchState
from app.store.tables import ArtifactRow, JobRow, Json, ModelRow, TrialRow

AnyJob = JobRow | Row[*tuple[Any, ...]]

NameOf = Callable[[str], str]
"""Names a file of a job for its download, given the name that it has in the job."""


def names(job: AnyJob, request: JobRequest, model: str | None) -> NameOf:
    """Return what names the files of a job, whose model is called ``model``, if it has a name."""
    return partial(job_names.file_name, model, job.name, request, job.id)


def artifact_view(artifact: ArtifactRow | Json, name_of: NameOf) -> Artifact:
    """Return a file of a job, called as its download is."""
    kept = Artifact.model_validate(artifact)
    return kept.model_copy(update={"filename": name_of(kept.filename)})


def _search(row: AnyJob) -> SearchState | None:
    """Return how far a search is, or was when it ended."""
    if row.search is None:
        return None
    state = SearchState.model_validate(row.search)
    return state.over if row.finished_at else state


def job_view(
    row: AnyJob,
    artifacts: Iterable[ArtifactRow | Json],
    *,
    model: str | None,
    step_reports: Iterable[Json] | None = None,
    queue_position: int | None = None,
) -> Job:
    """Return the job with its artifacts and, where they are given, its step reports.

    ``model`` is what its model is called, if it is called anything.
    """
    request = JobRequest.model_validate(row.request)
    name_of = names(row, request, model)
    return Job.model_validate(
        {
            "id": row.id,
            "status": row.status,
            "stage": row.stage,
            "progress": row.progress,
            "model": row.model_id,
            "dataset": row.dataset_id,
            "data": request.data,
            "name": row.name,
            "title": job_names.title(row.name, request, model),
            "tags": row.tags,
            "steps": request.steps,
            "objective": request.objective,
            "measure": request.measure,
            "search": _search(row),
            "parent": row.parent_id,
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
            "ruined": _is_ruined(row),
            "verdict": row.verdict,
            "artifacts": [artifact_view(each, name_of) for each in artifacts],
            "problem": row.problem,
            "step_reports": None if step_reports is None else list(step_reports),
        }
    )


def point_view(trial: TrialRow, job: JobRow) -> SearchPoint | None:
    """Return a trial as a point of its search; None where it was not measured."""
    outcome = Outcome.model_validate(trial.outcome) if trial.outcome else None
    if outcome is None or outcome.cost is None or outcome.drop is None or job.compressed is None:
        return None
    after = Measures.model_validate(job.compressed)
    return SearchPoint(
        id=job.id,
        trial=trial.number,
        steps=JobRequest.model_validate(job.request).steps or [],
        size_bytes=after.size_bytes,
        latency_ms=outcome.latency_ms or after.latency_ms,
        macs=after.macs,
        quality=after.quality,
        fidelity=after.fidelity,
        cost=outcome.cost,
        drop=outcome.drop,
        holds=outcome.holds,
        ruined=_is_ruined(job),
        device=outcome.device,
    )


def model_view(row: ModelRow) -> Model:
    """Return a model as clients see it."""
    description = _outline(row)
    return Model.model_validate(
        {
            "id": row.id,
            "name": row.name,
            "filename": row.filename,
            "format": description and description.format,
            "conversion": description and description.conversion,
            "status": row.status,
            "problem": row.problem,
            "sha256": row.sha256 if row.size_bytes else "",
            "size_bytes": row.size_bytes,
            "parameters": description and description.parameters,
            "nonzero_parameters": description and description.nonzero_parameters,
            "macs": description and description.macs,
            "sample_sizes": description and description.sample_sizes,
            "opset": description and description.opset,
            "inputs": description and description.inputs,
            "outputs": description and description.outputs,
            "operators": description and description.operators,
            "notes": description and description.notes,
            "trainable": description and description.trainable,
            "untrainable": description and description.untrainable,
            "created_at": row.created_at,
        }
    )


def _is_ruined(row: AnyJob) -> bool:
    if row.baseline is None or row.compressed is None:
        return False
    return ruined(*(Measures.model_validate(each) for each in (row.baseline, row.compressed)))


def _outline(row: ModelRow) -> ModelDescription | None:
    """Return the description without its large parts, which no view shows."""
    outlined = "description" in inspect(row).unloaded
    stored = row.outline if outlined else row.description
    left_out: dict[str, object] = {"layers": [], "nodes": [], "distributions": {}}
    return None if stored is None else ModelDescription.model_validate({**stored, **left_out})
