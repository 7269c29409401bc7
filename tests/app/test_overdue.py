"""What no worker takes fails in time, and says what is lacking."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, update

from app.domain import ids
from app.domain.sources import Source
from app.reap import Reaper
from app.settings import Settings
from app.store import fetches, inspections
from app.store.session import Sessions
from app.store.tables import ChoreRow, DatasetRow, FetchRow, JobRow, ModelRow, WorkerRow
from tests.app.service import Service
from tests.waiting import eventually

OLD = func.now() - timedelta(days=1, minutes=1)


def reap(settings: Settings, store: Sessions, reaper: Reaper | None = None) -> None:
    """Do what a process does every few seconds, as if it were due; it has long been there."""
    with store.begin() as session:
        session.query(ChoreRow).delete()
    (reaper or Reaper(store, settings, "a process", back_seconds=0)).reap()


def uploaded(service: Service, path: str = "/v1/models") -> str:
    return f"{path}/{service.http.post(path, content=b'bytes' * 20).json()['id']}"


def found(service: Service, path: str) -> dict[str, Any]:
    resource: dict[str, Any] = service.http.get(path).json()
    return resource


def age(service: Service, table: type[ModelRow] | type[DatasetRow]) -> None:
    with service.store.begin() as session:
        session.execute(update(table).values(created_at=OLD))


def light_worker(service: Service, unable: str | None = None) -> None:
    with service.store.begin() as session:
        session.add(
            WorkerRow(
                id=ids.new("wrk"), hostname="h", pid=1, queue="light", device="cpu", unable=unable
            )
        )


@pytest.mark.parametrize(
    ("workers", "said"),
    [
        ([], "no worker of the queue 'light'"),
        (["the kernel cannot confine"], "can run anything (the kernel cannot confine)"),
        (["the kernel cannot confine", None], "had other uploads to inspect"),
    ],
)
def test_an_upload_that_nobody_inspects_is_rejected_after_a_day(
    settings: Settings, service: Service, workers: list[str | None], said: str
) -> None:
    for unable in workers:
        light_worker(service, unable)
    made = [uploaded(service, path) for path in ("/v1/models", "/v1/datasets")]
    reap(settings, service.store)
    assert {found(service, path)["status"] for path in made} == {"inspecting"}
    age(service, ModelRow)
    age(service, DatasetRow)
    reap(settings, service.store)
    for path in made:
        upload = found(service, path)
        assert (upload["status"], upload["problem"]["type"]) == ("rejected", "not-inspected")
        assert said in upload["problem"]["detail"]


def test_an_upload_that_somebody_inspects_or_fetches_is_left_alone(
    settings: Settings, service: Service
) -> None:
    inspected = uploaded(service).rpartition("/")[2]
    fetched = {ids.new("mdl"), ids.new("mdl")}
    with service.store.begin() as session:
        for row_id in fetched:
            row = ModelRow(id=row_id, tenant="acme")
            fetches.add(session, row, Source(url=f"https://models.example.com/{row_id}"))
    with service.store.begin() as session:
        assert inspections.claim(session, ModelRow, inspected, "a worker", 60) is not None
        claimed = fetches.claim_next(session, "a worker", 60)
        assert claimed is not None
    age(service, ModelRow)
    reap(settings, service.store)
    with service.store() as session:
        states = {row.id: row.status for row in session.query(ModelRow)}
        left = [row.id for row in session.query(FetchRow)]
    (rejected,) = fetched - {claimed.id}
    assert states == {inspected: "inspecting", claimed.id: "inspecting", rejected: "rejected"}
    assert left == [claimed.id], "what is rejected is not fetched"


def test_a_job_that_no_worker_can_run_fails_and_says_what_it_requires(
    settings: Settings, service: Service
) -> None:
    made = service.job(requires={"labels": ["arm64"]}, limits={"pending_minutes": 5})
    path = f"/v1/jobs/{made['id']}"
    reap(settings, service.store)
    assert found(service, path)["status"] == "queued"
    with service.store.begin() as session:
        session.execute(update(JobRow).values(queued_at=OLD))
    reap(settings, service.store)
    job = found(service, path)
    assert (job["status"], job["problem"]["type"]) == ("failed", "pending-limit")
    assert "arm64" in job["problem"]["detail"]


def test_what_waited_while_the_whole_service_was_away_is_left_to_the_workers_first(
    settings: Settings, service: Service
) -> None:
    """The first process that is there again would fail what no worker could take meanwhile."""
    jobs = [service.job(limits={"pending_minutes": minutes})["id"] for minutes in (1e-6, 60)]
    paths = [*(f"/v1/jobs/{job}" for job in jobs), uploaded(service)]
    with service.store.begin() as session:
        session.execute(update(JobRow).values(queued_at=OLD))
    age(service, ModelRow)
    first = Reaper(service.store, settings, "the first process", back_seconds=3600)
    for _ in range(2):
        reap(settings, service.store, first)
    short, long, upload = (found(service, path)["status"] for path in paths)
    assert (short, long, upload) == ("failed", "queued", "inspecting"), "a short limit is over"
    later = Reaper(service.store, settings, "a process", back_seconds=2)

    def is_over() -> bool:
        reap(settings, service.store, later)
        return bool(found(service, paths[-1])["status"] == "rejected")

    eventually(is_over, what="the end of the time that workers have")
    assert [found(service, path)["status"] for path in paths] == ["failed", "failed", "rejected"]
