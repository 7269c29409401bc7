"""``/v1/jobs``: ranked, listed, finished, cancelled, retried, deleted."""

from sqlalchemy import select

from app.store.tables import EventRow, JobRow
from tests.app.service import DYNAMIC, STEP_REPORT, Service


def test_a_quota_bounds_the_active_jobs(service: Service) -> None:
    model = service.model()
    first, *_ = (service.job(model)["id"] for _ in range(5))
    body = {"model": model, "steps": DYNAMIC}
    answer = service.http.post("/v1/jobs", json=body)
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 0
    service.http.post(f"/v1/jobs/{first}/cancel")
    assert service.http.post("/v1/jobs", json=body).status_code == 202
    assert service.http.post(f"/v1/jobs/{first}/retry").status_code == 429, "it would be one more"


def test_queue_positions_count_the_tenants_own_jobs(service: Service) -> None:
    model = service.model()
    jobs = [service.job(model)["id"] for _ in range(2)]
    foreign = service.other.post("/v1/models", content=b"m").json()["id"]
    body = {"model": foreign, "steps": DYNAMIC}
    between = service.other.post("/v1/jobs", json=body).json()["id"]
    jobs.append(service.job(model)["id"])
    listed = service.http.get("/v1/jobs").json()["items"]
    assert [(job["id"], job["queue_position"]) for job in listed] == [
        (jobs[2], 3),
        (jobs[1], 2),
        (jobs[0], 1),
    ]
    service.start(jobs[0])
    assert service.http.get(f"/v1/jobs/{jobs[0]}").json()["queue_position"] is None
    assert service.other.get(f"/v1/jobs/{between}").json()["queue_position"] == 1


def test_jobs_are_listed_by_state_model_and_tag_without_step_reports(service: Service) -> None:
    one, two = service.model(), service.model()
    first = service.job(one, tags=["red"])["id"]
    second = service.job(two, tags=["blue", "red"])["id"]
    service.finish(first)

    def listed(**params: str) -> list[str]:
        items = service.http.get("/v1/jobs", params=params).json()["items"]
        assert all("step_reports" not in item for item in items)
        return [item["id"] for item in items]

    assert listed() == [second, first]
    assert listed(status="succeeded") == [first]
    assert listed(model=two) == [second]
    assert listed(tag="red") == [second, first]
    assert listed(tag="red", status="queued") == [second]
    assert service.http.get("/v1/jobs?status=lost").status_code == 422


def test_a_finished_job_has_its_figures_and_artifacts(service: Service) -> None:
    job = service.job()["id"]
    artifact = service.finish(job)
    view = service.http.get(f"/v1/jobs/{job}").json()
    assert (view["status"], view["progress"], view["verdict"]) == ("succeeded", 1, "3 times faster")
    assert view["step_reports"] == [STEP_REPORT | view["step_reports"][0]]
    assert "problem" not in view
    [shown] = view["artifacts"]
    assert shown["id"] == artifact
    assert shown["href"] == f"/v1/artifacts/{artifact}/content"
    assert service.http.get(f"/v1/jobs/{job}/artifacts").json()["items"] == [shown]


def test_cancelling_ends_a_queued_job_and_asks_a_running_one(service: Service) -> None:
    queued, running = service.job()["id"], service.job()["id"]
    service.start(running)
    answer = service.http.post(f"/v1/jobs/{queued}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")
    assert answer.json()["finished_at"] is not None
    assert service.http.post(f"/v1/jobs/{queued}/cancel").status_code == 409
    answer = service.http.post(f"/v1/jobs/{running}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (202, "running")
    with service.store() as session:
        assert session.get_one(JobRow, running).cancel_requested
        states = session.scalars(
            select(EventRow).where(EventRow.job_id == queued).order_by(EventRow.number)
        )
        assert [event.data["status"] for event in states] == ["queued", "cancelled"]


def test_a_retry_queues_the_same_job_and_counts_on(service: Service) -> None:
    job = service.job()["id"]
    assert service.http.post(f"/v1/jobs/{job}/retry").status_code == 409
    service.start(job)
    service.finish(job, failed=True)
    failed = service.http.get(f"/v1/jobs/{job}").json()
    assert failed["problem"]["type"] == "quality-below-requirement"
    assert len(failed["artifacts"]) == 1
    answer = service.http.post(f"/v1/jobs/{job}/retry")
    assert answer.status_code == 202
    again = answer.json()
    assert (again["id"], again["status"], again["attempts"]) == (job, "queued", 1)
    assert "problem" not in again
    assert again["finished_at"] is None
    assert again["queue_position"] == 1
    assert len(again["step_reports"]) == 1


def test_a_job_whose_model_is_gone_cannot_be_retried(service: Service) -> None:
    model = service.model()
    job = service.job(model)["id"]
    service.http.post(f"/v1/jobs/{job}/cancel")
    service.http.delete(f"/v1/models/{model}")
    answer = service.http.post(f"/v1/jobs/{job}/retry")
    assert answer.status_code == 409
    assert "deleted" in answer.json()["detail"]


def test_only_a_finished_job_is_deleted_with_its_artifacts(service: Service) -> None:
    job = service.job()["id"]
    assert service.http.delete(f"/v1/jobs/{job}").status_code == 409
    service.start(job)
    assert service.http.delete(f"/v1/jobs/{job}").status_code == 409
    artifact = service.finish(job)
    assert service.http.delete(f"/v1/jobs/{job}").status_code == 204
    for path in (f"/v1/jobs/{job}", f"/v1/artifacts/{artifact}/content"):
        assert service.http.get(path).status_code == 404
