"""What is old is deleted where that was asked for, and a deleted tenant leaves nothing."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from app.blobs import Blob, Blobs
from app.domain.models import ModelDescription
from app.services import tenants
from app.settings import Retention, Settings
from app.store import blob_rows, inspections, retention
from app.store.tables import DatasetRow, ModelRow, Table
from tests.app.claiming import claim_job
from tests.app.service import MODEL, Service, sha256


def age(service: Service, table: str, column: str, row: str, days: float) -> None:
    with service.store.begin() as session:
        session.execute(
            text(f"UPDATE {table} SET {column} = now() - :days * interval '1 day' WHERE id = :id"),
            {"days": days, "id": row},
        )


def count(service: Service, table: str, **where: str) -> int:
    conditions = " AND ".join(f"{name} = :{name}" for name in where) or "true"
    with service.store() as session:
        query = text(f"SELECT count(*) FROM {table} WHERE {conditions}")
        return int(session.execute(query, where).scalar_one())


def prune(service: Service, portion: int = 1, **kept: Any) -> None:
    """Delete what is old, in portions."""
    settings = Retention.model_validate(kept)
    last = None
    while True:
        with service.store.begin() as session:
            last = retention.prune_jobs(session, settings, last, portion)
        if last is None:
            break
    for table in (ModelRow, DatasetRow):
        more = 1
        while more:
            with service.store.begin() as session:
                more = retention.prune_uploads(session, settings, table, portion)
    more = 1
    while more:
        with service.store.begin() as session:
            more = retention.prune_deliveries(session, settings, portion)


def ended(service: Service, days: float, *, failed: bool = False) -> str:
    """Return a job that ended some days ago, with a step, an artifact and events."""
    job = str(service.job()["id"])
    service.start(job)
    service.finish(job, failed=failed)
    age(service, "jobs", "finished_at", job, days)
    return job


@pytest.fixture
def jobs(service: Service) -> tuple[str, str]:
    """One that ended long ago, and one that ended yesterday."""
    return ended(service, 100), ended(service, 1)


def test_without_a_setting_everything_is_kept(service: Service, jobs: tuple[str, str]) -> None:
    age(service, "models", "created_at", service.model(b"never used"), 10_000)
    prune(service)
    assert count(service, "jobs") == 2
    assert count(service, "artifacts") == 2
    assert count(service, "models") == 3


def test_old_jobs_go_with_all_that_belongs_to_them(service: Service, jobs: tuple[str, str]) -> None:
    old, young = jobs
    prune(service, jobs_days=90)
    assert service.http.get(f"/v1/jobs/{old}").status_code == 404
    assert service.http.get(f"/v1/jobs/{young}").status_code == 200
    for table in ("events", "steps", "artifacts"):
        assert count(service, table, job_id=old) == 0
        assert count(service, table, job_id=young) > 0


@pytest.mark.parametrize(("own", "kept"), [({"jobs_days": None}, 2), ({"jobs_days": 0.5}, 0)])
def test_a_tenant_may_have_its_own_numbers(
    service: Service, jobs: tuple[str, str], own: dict[str, Any], kept: int
) -> None:
    prune(service, jobs_days=90, tenants={"acme": own})
    assert count(service, "jobs") == kept
    others = Retention.model_validate({"jobs_days": 90, "tenants": {"acme": own}})
    assert others.of("other").jobs_days == 90


def test_parts_of_old_jobs_go_and_the_job_stays(service: Service) -> None:
    job = ended(service, 100, failed=True)
    before = service.http.get(f"/v1/jobs/{job}").json()
    prune(service, events_days=90, steps_days=90, artifacts_days=90)
    after = service.http.get(f"/v1/jobs/{job}").json()
    assert after == {**before, "artifacts": []}
    assert count(service, "events", job_id=job) == 0
    with service.store() as session:
        graphs = session.execute(text("SELECT graph_sha256, size_bytes FROM steps")).all()
    assert graphs == [(None, 0)]
    service.http.post(f"/v1/jobs/{job}/retry").raise_for_status()
    with service.store.begin() as session:
        claim = claim_job(session, job, "worker", 60)
    assert claim is not None
    assert claim.steps == (), "the step is done again"


def test_settled_deliveries_go_and_pending_ones_stay(service: Service) -> None:
    url = {"url": "http://127.0.0.1:9/hook"}
    hook = service.http.post("/v1/webhooks", json=url).json()["id"]
    made = [service.http.post(f"/v1/webhooks/{hook}/test").json()["id"] for _ in range(3)]
    for delivery in made[:2]:
        age(service, "deliveries", "created_at", delivery, 100)
    with service.store.begin() as session:
        for delivery in made[1:]:
            settled = text("UPDATE deliveries SET status = 'delivered' WHERE id = :id")
            session.execute(settled, {"id": delivery})
    prune(service, deliveries_days=90)
    with service.store() as session:
        left = session.execute(text("SELECT id FROM deliveries")).scalars().all()
    assert sorted(left) == sorted([made[0], made[2]])


def test_uploads_go_that_no_job_has_used_for_long(service: Service) -> None:
    unused, fresh, used, active = (service.model(name) for name in (b"a", b"b", b"c", b"d"))
    data, unused_data = service.dataset(b"e"), service.dataset(b"f")
    for table, rows in {
        "models": (unused, used, active),
        "datasets": (data, unused_data),
    }.items():
        for row in rows:
            age(service, table, "created_at", row, 100)
    job = service.job(used, dataset=data)["id"]
    service.start(job)
    service.finish(job)
    waiting = service.job(active)["id"]
    age(service, "jobs", "created_at", waiting, 100)
    age(service, "models", "used_at", active, 100)
    prune(service, uploads_days=90)
    with service.store() as session:
        models = set(session.execute(text("SELECT id FROM models")).scalars())
        datasets = set(session.execute(text("SELECT id FROM datasets")).scalars())
    assert models == {fresh, used, active}
    assert datasets == {data}


def test_a_deleted_tenant_leaves_no_row_and_no_blob(service: Service, settings: Settings) -> None:
    ended(service, 1)
    service.dataset()
    service.http.post("/v1/webhooks", json={"url": "http://127.0.0.1:9/hook"}).raise_for_status()
    began = {"Tus-Resumable": "1.0.0", "Upload-Length": "10"}
    place = service.http.post("/v1/uploads", headers=began).headers["location"]
    part = {**began, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    service.http.patch(place, content=b"part", headers=part).raise_for_status()
    shared, theirs = b"both have it", b"the other's"
    service.http.post("/v1/models", content=shared).raise_for_status()
    for content in (shared, theirs):
        service.other.post("/v1/models", content=content).raise_for_status()
    blobs = Blobs.open(settings.storage.url)
    done = tenants.delete(service.store, blobs, "acme")
    assert done.rows >= 10
    assert done.left == 0
    for table in Table.metadata.sorted_tables:
        if "tenant" in table.columns:
            assert count(service, table.name, tenant="acme") == 0, table.name
    assert count(service, "counters", label="acme") == 0
    assert count(service, "events") == count(service, "steps") == 0
    root = Path(settings.storage.url.removeprefix("file://"))
    files = {path.name for path in root.rglob("*") if path.is_file()}
    assert files == {sha256(shared), sha256(theirs)}
    assert service.http.get("/v1/models").status_code == 401
    assert len(service.other.get("/v1/models").json()["items"]) == 2


def test_bytes_that_somebody_is_about_to_use_stay(service: Service, settings: Settings) -> None:
    """A worker has stored the same graph for another tenant, and not yet written so."""
    graph = b"the same graph"
    service.http.post("/v1/models", content=graph).raise_for_status()
    model = service.other.post("/v1/models", content=b"another file").json()["id"]
    blobs = Blobs.open(settings.storage.url)
    with service.store.begin() as session:
        claim = inspections.claim(session, ModelRow, model, "worker", 60)
    assert claim is not None
    with service.store.begin() as session:
        blob_rows.touch(session, sha256(graph), len(graph))
    done = tenants.delete(service.store, blobs, "acme")
    assert done.left == 1
    blob = Blob(sha256(graph), len(graph), "")
    with service.store.begin() as session:
        described = ModelDescription.model_validate(MODEL)
        inspections.accept_model(session, claim, described, blob, blob)
    answer = service.other.get(f"/v1/models/{model}/content", params={"form": "onnx"})
    assert answer.content == graph
