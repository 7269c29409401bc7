"""A plan counts what jobs took here besides their steps."""

import pytest

from app.store import overheads
from app.store.tables import JobRow, StepRow
from tests.app.service import DYNAMIC, Service


def _ended(service: Service, model: str, seconds: float, in_steps: float) -> str:
    """Let a job of a model end that ran so long, and whose step took so much of it."""
    job: str = service.job(model)["id"]
    service.finish(job)
    with service.store.begin() as session:
        session.get_one(JobRow, job).running_seconds = seconds
        session.get_one(StepRow, (job, 0)).finished = {"seconds": in_steps}
    return job


def _seconds(service: Service, model: str, steps: object = DYNAMIC) -> float:
    answer = service.http.post("/v1/jobs/plan", json={"model": model, "steps": steps})
    return 60 * float(answer.json()["estimate"]["minutes"])


def test_the_constant_part_is_the_median_of_what_was_measured_here(service: Service) -> None:
    model = service.model()
    first = _seconds(service, model)
    assert first > overheads.BEFORE_ANY, "something is counted before there is a job"
    for seconds in (100.0, 102.0, 400.0):
        _ended(service, model, seconds, in_steps=40.0)
    steps = first - overheads.BEFORE_ANY
    assert _seconds(service, model) == pytest.approx(62.0 + steps, abs=0.1)


def test_jobs_of_the_model_itself_count_before_those_of_others(service: Service) -> None:
    model, other = service.model(), service.model(b"another")
    _ended(service, other, 500.0, in_steps=0.0)
    before = _seconds(service, model)
    _ended(service, model, 20.0, in_steps=0.0)
    assert _seconds(service, model) == pytest.approx(before - 480.0, abs=0.1)


@pytest.mark.parametrize(("column", "value"), [("status", "failed"), ("tenant", "somebody")])
def test_failed_jobs_and_those_of_others_do_not_count(
    service: Service, column: str, value: str
) -> None:
    model = service.model()
    first = _seconds(service, model)
    ended = _ended(service, model, 500.0, in_steps=0.0)
    with service.store.begin() as session:
        setattr(session.get_one(JobRow, ended), column, value)
    assert _seconds(service, model) == first


def test_a_job_without_steps_takes_what_is_besides_them(service: Service) -> None:
    model = service.model()
    _ended(service, model, 33.0, in_steps=3.0)
    body = {"model": model, "steps": [], "deliver": ["ort"]}
    answer = service.http.post("/v1/jobs/plan", json=body)
    assert answer.json()["estimate"]["minutes"] == pytest.approx(0.5)
