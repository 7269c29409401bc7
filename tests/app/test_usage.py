"""What was used stands by day, for the tenant alone, and stays when jobs are deleted."""

from datetime import UTC, datetime, timedelta

import pytest

from app.domain.jobs import Usage
from app.store import runs
from app.store.tables import JobRow
from tests.app.service import Service


def use(service: Service, job: str, cpu: float, gpu: float = 0.0) -> None:
    """Let an attempt at a job use something."""
    with service.store.begin() as session:
        runs.add_usage(
            session,
            session.get_one(JobRow, job),
            Usage(cpu_seconds=cpu, gpu_seconds=gpu, peak_memory_bytes=1),
        )


def test_a_day_adds_up_and_outlives_the_jobs(service: Service) -> None:
    model = service.model(b"m" * 1000)
    job = service.job(model)["id"]
    service.start(job)
    use(service, job, 1.5, 0.25)
    use(service, job, 2.0)
    service.finish(job)
    before = service.http.get("/v1/usage").json()["items"]
    assert len(before) == 30
    today = before[-1]
    assert today["day"] == datetime.now(UTC).date().isoformat()
    assert (today["cpu_seconds"], today["gpu_seconds"], today["jobs"]) == (3.5, 0.25, 1)
    assert today["stored_bytes"] >= 1000
    assert {day["cpu_seconds"] for day in before[:-1]} == {0}
    assert service.http.delete(f"/v1/jobs/{job}").is_success
    assert service.http.get("/v1/usage").json()["items"] == before
    others = service.other.get("/v1/usage").json()["items"]
    assert {(day["jobs"], day["stored_bytes"]) for day in others} == {(0, 0)}


def test_days_are_chosen_and_what_is_stored_stays_until_the_next_use(service: Service) -> None:
    service.model(b"m" * 1000)
    today = datetime.now(UTC).date()
    until = (today + timedelta(days=2)).isoformat()
    days = service.http.get("/v1/usage", params={"from": today.isoformat(), "to": until}).json()
    assert [day["stored_bytes"] for day in days["items"]] == [1000] * 3
    moments = {"from": f"{today}T10:00:00Z", "to": f"{until}T23:30:00.5+00:00"}
    for written in (moments, {name: moment.lower() for name, moment in moments.items()}):
        assert service.http.get("/v1/usage", params=written).json() == days
    later = service.http.get("/v1/usage", params={"from": until, "to": until}).json()["items"]
    assert [day["stored_bytes"] for day in later] == [1000]
    earliest = service.http.get("/v1/usage", params={"to": "0001-01-02"}).json()["items"]
    assert [day["day"] for day in earliest] == ["0001-01-01", "0001-01-02"]


@pytest.mark.parametrize(
    ("first", "last"), [("2026-02-02", "2026-02-01"), ("2020-01-01", "2026-01-01")]
)
def test_days_in_the_wrong_order_or_too_many_are_refused(
    service: Service, first: str, last: str
) -> None:
    answer = service.http.get("/v1/usage", params={"from": first, "to": last})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "#/from"
    for moment in ("0", "2026-02-01T10:00", "2026-02-01T99:00:00Z", "0001-01-01T00:00:00+23:00"):
        assert service.http.get("/v1/usage", params={"to": moment}).status_code == 422
