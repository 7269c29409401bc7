"""Jobs: plan, submit, show, cancel, retry, delete. Functions work in the caller's transaction."""

from collections.abc import Iterable

from sqlalchemy.orm import Session

from app import nudge
from app.domain.job_answers import Artifact, Job, MadeWebhook, SubmittedJob
from app.domain.jobs import FINISHED, JobRequest, JobStatus
from app.domain.latencies import Latency
from app.domain.plans import Plan
from app.domain.problems import Conflict, NotFound, TooManyRequests
from app.domain.reports import JobReport
from app.domain.searches import begun
from app.services import plans, targets, webhooks
from app.services.inputs import look_up
from app.services.listing import Part, Walk, part
from app.services.precedents import ruined_before
from app.settings import Settings
from app.store import jobs, lookup, retention, searches, transitions, workers
from app.store.tables import ArtifactRow, DatasetRow, JobRow, ModelRow
from app.store.views import NameOf, artifact_view, job_view, names

_RETRY_AFTER_S = 30


def plan(session: Session, tenant: str, request: JobRequest, settings: Settings) -> Plan:
    """Return what a job would do; nothing runs.

    Raises:
        Invalid: The request names a model or dataset that is not the tenant's.
    """
    request = targets.placed(session, tenant, request)
    admitted = settings.webhook.allowed_networks
    inputs = look_up(session, tenant, request, admitted)
    return plans.plan(request, inputs, ruined_before(session, tenant, request, inputs))


def submit(session: Session, tenant: str, request: JobRequest, settings: Settings) -> SubmittedJob:
    """Queue a job; its model and dataset cannot be deleted until it ends.

    Raises:
        Invalid: A model or dataset that it names does not exist, or the plan refuses it.
        TooManyRequests: The tenant has reached its number of active jobs.
    """
    request = _spread(session, targets.placed(session, tenant, request))
    admitted = settings.webhook.allowed_networks
    plans.require_possible(request, look_up(session, tenant, request, admitted))
    _require_turn(session, tenant, settings)
    row = jobs.row(tenant, request)
    if request.objective is not None:
        row.search = begun(request.objective.strategy, request.objective.budget.trials).model_dump(
            mode="json"
        )
    session.add(row)
    retention.note_use(session, ModelRow, [request.model, *request.other_models.values()])
    retention.note_use(session, DatasetRow, list(request.datasets.values()))
    transitions.enter(session, row, "queued", "queued")
    made = None
    if request.webhook is not None:
        hook, secret = webhooks.one_off(session, tenant, row.id, request.webhook)
        made = MadeWebhook(id=hook.id, secret=secret)
    session.flush()
    return SubmittedJob.model_validate(
        {
            **show(session, tenant, row.id).model_dump(),
            "webhook": made,
        }
    )


def _spread(session: Session, request: JobRequest) -> JobRequest:
    """Return a search that says how many of its trials run at one time: for good (decision 49)."""
    objective = request.objective
    if objective is None:
        return request
    budget = objective.budget.among(workers.fitting(session, request.requires))
    return request.model_copy(update={"objective": objective.model_copy(update={"budget": budget})})


def subject(job: JobRequest | Job) -> nudge.Subject:
    """Return whom a nudge about a job is for: any worker takes turns of searches."""
    return "job" if job.objective is None else "search"


def find(session: Session, tenant: str, job_id: str, lock: lookup.Lock | None = None) -> JobRow:
    """Return a job of the tenant, or raise NotFound."""
    row = lookup.find(session, JobRow, tenant, job_id, lock)
    if row is None:
        raise _unknown(job_id)
    return row


def cancel(session: Session, tenant: str, job_id: str) -> Job:
    """End a queued job at once; ask the worker of a running one to stop.

    Raises:
        NotFound: It is not the tenant's.
        Conflict: It has finished.
    """
    row = find(session, tenant, job_id, "change")
    if row.status in FINISHED:
        raise Conflict(f"The job has finished ({row.status}): there is nothing to cancel.")
    if row.search is not None:
        still_runs = searches.end_trials(session, row.id)
    else:
        still_runs = row.status == "running"
    if not still_runs:
        if row.search is not None:
            searches.say_ended(row, "cancelled")
        transitions.finish(session, row, "cancelled")
    else:
        row.cancel_requested = True
        session.flush()
    return show(session, tenant, row.id)


def retry(session: Session, tenant: str, job_id: str, settings: Settings) -> Job:
    """Queue a failed or cancelled job again; its finished steps are not repeated.

    Raises:
        NotFound: It is not the tenant's.
        Conflict: It is neither failed nor cancelled, or its model or dataset was deleted.
        TooManyRequests: The tenant has reached its number of active jobs.
    """
    row = find(session, tenant, job_id, "change")
    if row.status not in {"failed", "cancelled"}:
        raise Conflict(f"The job is {row.status}: only a failed or cancelled one can be retried.")
    _refuse_trial(row)
    _require_turn(session, tenant, settings)
    if row.search is not None:
        searches.forget_unmeasured(session, row.id)
        searches.say_ended(row, None)
    if lookup.find(session, ModelRow, tenant, row.model_id, "keep") is None:
        raise Conflict("The job's model was deleted: upload it again and submit a new job.")
    request = JobRequest.model_validate(row.request)
    for dataset in request.datasets.values():
        if lookup.find(session, DatasetRow, tenant, dataset, "keep") is None:
            raise Conflict(f"Dataset {dataset} was deleted: upload it again and submit a new job.")
    for model_id in request.other_models.values():
        if lookup.find(session, ModelRow, tenant, model_id, "keep") is None:
            raise Conflict(f"Model {model_id} was deleted: upload it again and submit a new job.")
    transitions.retry(session, row)
    session.flush()
    session.refresh(row)
    return show(session, tenant, row.id)


def delete(session: Session, tenant: str, job_id: str) -> None:
    """Delete a finished job with its events, steps and artifacts.

    Raises:
        NotFound: It is not the tenant's.
        Conflict: It is queued or running.
    """
    row = find(session, tenant, job_id, "change")
    if row.status not in FINISHED:
        raise Conflict(f"The job is {row.status}: cancel it first, then delete it.")
    _refuse_trial(row)
    if row.search is not None:
        searches.forget_trials(session, row.id)
    session.delete(row)


def show(reader: jobs.Reader, tenant: str, job_id: str) -> Job:
    """Return a job of the tenant as clients see it, with its step reports, or raise NotFound."""
    row = jobs.whole(reader, tenant, job_id)
    if row is None:
        raise _unknown(job_id)
    position = jobs.positions(reader, [row]).get(job_id)
    reports = row.step_reports or ()
    return job_view(
        row,
        row.artifacts or (),
        model=row.model_name,
        step_reports=reports,
        queue_position=position,
    )


def asked(session: Session, tenant: str, job_id: str) -> JobRequest:
    """Return what a job was asked to do, without its webhook's secret, or raise NotFound."""
    return JobRequest.model_validate(find(session, tenant, job_id).request)


def views(session: Session, rows: Iterable[JobRow]) -> list[Job]:
    """Return jobs as a list shows them."""
    listed = list(rows)
    artifacts = jobs.artifacts(session, [row.id for row in listed])
    positions = jobs.positions(session, listed)
    called = jobs.model_names(session, [row.model_id for row in listed])
    return [
        job_view(
            row,
            artifacts[row.id],
            model=called.get(row.model_id),
            queue_position=positions.get(row.id),
        )
        for row in listed
    ]


def models_called(session: Session, shown: Iterable[Job]) -> dict[str, str]:
    """Return what the models of some jobs are called, by their ids, where they have names."""
    return jobs.model_names(session, [job.model for job in shown])


def listed(
    session: Session,
    tenant: str,
    walk: Walk,
    *,
    status: JobStatus | None = None,
    model: str | None = None,
    tag: str | None = None,
    parent: str | None = None,
) -> Part[Job]:
    """Return a part of the tenant's jobs that match all given filters; see ``of_tenant``."""
    query = jobs.of_tenant(tenant, status=status, model=model, tag=tag, parent=parent)
    return part(session, walk, query, JobRow, lambda rows: views(session, rows))


def artifacts(session: Session, tenant: str, job_id: str, walk: Walk) -> Part[Artifact]:
    """Return a part of the files that a job made, or raise NotFound."""
    job = find(session, tenant, job_id)
    name_of = names_of(session, job)
    return part(
        session,
        walk,
        jobs.artifacts_of(job.id),
        ArtifactRow,
        lambda rows: [artifact_view(row, name_of) for row in rows],
    )


def names_of(session: Session, job: JobRow) -> NameOf:
    """Return what names the files of a job for their downloads."""
    called = jobs.model_names(session, [job.model_id]).get(job.model_id)
    return names(job, JobRequest.model_validate(job.request), called)


def counts(session: Session, tenant: str) -> dict[str, str]:
    """Return how many jobs the tenant has, by their status, in words where they are very many."""
    return {
        status: f"{number:,} or more" if number == jobs.MOST_COUNTED else str(number)
        for status, number in jobs.counts(session, tenant).items()
    }


def report(session: Session, tenant: str, job_id: str) -> JobReport:
    """Return the report of a job.

    Raises:
        NotFound: It is not the tenant's.
        Conflict: There is no report yet, or there will be none.
    """
    row = find(session, tenant, job_id)
    if row.request.get("measure") is not None:
        raise Conflict(
            f"The job measures the model, which has the chart: see"
            f" '/v1/models/{row.model_id}/sensitivity'."
        )
    if row.evaluation is None:
        raise Conflict(
            f"The job is {row.status} and has no report"
            + (": retry it." if row.status in FINISHED else " yet: wait until it has finished.")
        )
    name_of = names_of(session, row)
    files = [artifact_view(file, name_of) for file in jobs.artifacts(session, [row.id])[row.id]]
    return JobReport.model_validate(
        {
            "job": row.id,
            "name": row.name,
            "status": row.status,
            "model": row.model_id,
            "dataset": row.dataset_id,
            "problem": row.problem,
            "finished_at": row.finished_at,
            "baseline": row.baseline,
            "compressed": row.compressed,
            "step_reports": jobs.step_reports(session, row.id),
            "artifacts": files,
            "evaluation": row.evaluation,
            "verdict": row.verdict,
            "manifest": row.manifest,
        }
    )


def latencies(reader: jobs.Reader, shown: Iterable[Job]) -> dict[str, Latency]:
    """Return how many times faster the results of jobs are, by the job's id, where it is known.

    Times of two jobs were measured at two moments, when the machine may have been busy or not: a
    result compares with the original that ran by turns with it, and with nothing else.
    """
    found = jobs.latencies(reader, [job.id for job in shown])
    return {job: Latency.model_validate(each) for job, each in found.items() if each is not None}


def _require_turn(session: Session, tenant: str, settings: Settings) -> None:
    """Refuse one more active job than the tenant may have; others that ask wait until commit."""
    if jobs.active(session, tenant) >= settings.quota.active_jobs:
        raise TooManyRequests(
            f"You have {settings.quota.active_jobs} queued and running jobs, which is the limit:"
            " wait until one ends, or cancel one.",
            headers={"Retry-After": str(_RETRY_AFTER_S)},
        )


def _unknown(job_id: str) -> NotFound:
    return NotFound(f"There is no job {job_id!r}.")


def _refuse_trial(row: JobRow) -> None:
    """Raise Conflict where a job is a trial: it stays as it is while its search is there."""
    if row.parent_id is not None:
        raise Conflict(f"The job is a trial of the search {row.parent_id}: retry or delete that.")
