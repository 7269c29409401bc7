"""What tests of searches share: one is asked for, takes turns, and its trials come to figures."""

from collections.abc import Callable
from typing import Any

from app.domain import ids
from app.domain.problems import QualityBelowRequirement
from app.settings import Device as DeviceSettings
from app.store import blob_rows, searches, transitions, turns
from app.store.tables import ArtifactRow, JobRow, ModelRow, StepRow
from tests.app.claiming import CPU, claim_job
from tests.app.service import EVALUATION, MANIFEST, MEASURES, STEP_REPORT, Service
from workers.search import turn

Json = dict[str, Any]
Figures = tuple[float, float]
"""The cost of a trial as a share of the original's, and its loss of quality."""

GOOD: Figures = (0.5, 0.0)
PATIENCE = DeviceSettings()


def search(service: Service, minimize: str = "size", **more: Any) -> Json:
    """Submit a search of four trials with data."""
    budget = {"trials": 4, "minutes": 10, **more.pop("budget", {})}
    objective = {"minimize": minimize, "budget": budget, **more.pop("objective", {})}
    body = {"model": service.model(), "dataset": service.dataset(), "objective": objective, **more}
    answer = service.http.post("/v1/jobs", json=body)
    assert answer.status_code == 202, answer.text
    made: Json = answer.json()
    return made


def take_turn(service: Service, search_id: str, patience: DeviceSettings = PATIENCE) -> list[str]:
    with service.store.begin() as session:
        row = searches.hold(session, search_id)
        return [] if row is None else turn.take(session, row, patience)


def start(service: Service) -> str | None:
    """Let a worker claim the next job."""
    with service.store.begin() as session:
        job_id = turns.next_job(session, CPU, {})
        if job_id is None:
            return None
        assert claim_job(session, job_id, "w", 60) is not None
        return job_id


def end(service: Service, job_id: str, figures: Figures | None) -> None:
    """Let a trial end with its figures, or with a problem."""
    with service.store.begin() as session:
        job = session.get_one(JobRow, job_id)
        job.cpu_seconds = 2.0
        if figures is None:
            transitions.finish(session, job, "failed", QualityBelowRequirement("It broke."))
            return
        cost, drop = figures
        model = session.get_one(ModelRow, job.model_id)
        quality = {**MEASURES["quality"], "value": 0.9 - drop}
        after = {
            **MEASURES,
            "size_bytes": int(4000 * cost),
            "macs": int(500_000 * cost),
            "quality": quality,
        }
        blob_rows.touch(session, model.sha256, model.size_bytes)
        session.add(
            StepRow(
                job_id=job_id,
                index=0,
                graph_sha256=model.sha256,
                finished={},
                report={**STEP_REPORT, "after": after},
            )
        )
        session.add(
            ArtifactRow(
                id=ids.new("art"),
                tenant=job.tenant,
                job_id=job_id,
                format=job.request["deliver"][0],
                filename="model.onnx",
                sha256=model.sha256,
                size_bytes=model.size_bytes,
            )
        )
        job.baseline, job.compressed = MEASURES, after
        job.evaluation, job.manifest = EVALUATION, MANIFEST
        job.verdict = f"{cost:g} of the size"
        problem = QualityBelowRequirement("It lost too much.") if drop > 0.01 else None
        transitions.finish(session, job, "failed" if problem else "succeeded", problem)


def begun_trial(service: Service, search_id: str) -> str:
    """Let a search take its turn, and a worker begin a trial; return that one."""
    take_turn(service, search_id)
    trial = start(service)
    assert trial is not None
    return trial


def first_trial(service: Service, search_id: str) -> str:
    """Let a search file trials, and the first of them end well; return that one."""
    trial = begun_trial(service, search_id)
    end(service, trial, GOOD)
    return trial


def run(
    service: Service, search_id: str, judge: Callable[[int], Figures | None] = lambda _: GOOD
) -> list[str]:
    """Run a search to its end with one worker; return its trials."""
    take_turn(service, search_id)
    ran: list[str] = []
    while (job_id := start(service)) is not None:
        take_turn(service, search_id)
        end(service, job_id, judge(len(ran)))
        ran.append(job_id)
        take_turn(service, search_id)
        assert len(ran) <= 20
    return ran


def shown(service: Service, job_id: str) -> Json:
    answer = service.http.get(f"/v1/jobs/{job_id}")
    assert answer.status_code == 200, answer.text
    job: Json = answer.json()
    return job
