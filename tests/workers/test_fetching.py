"""Files at addresses: fetched from permitted places alone, bounded, checked, and never lost."""

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from app.domain.references import DatasetReference, ModelReference
from app.services import datasets, models, references
from app.settings import Settings
from app.store import fetches, reaping, turns
from app.store.tables import DatasetRow, FetchRow, ModelRow
from tests import s3
from tests.fileserver import Host, content, endless, files, in_turn, status
from tests.waiting import eventually
from tests.workers.worker import worker_with
from workers.fetching.dispatch import fetch_due
from workers.fetching.fetch import fetch_next
from workers.worker import Worker

MODEL = b"a model that nobody has looked at yet" * 100
SHA256 = hashlib.sha256(MODEL).hexdigest()


@pytest.fixture
def host() -> Iterator[Host]:
    with files() as host:
        host.answers["/released/net.onnx"] = content(MODEL)
        yield host


def settings_for(database: str, redis_url: str, storage_url: str, *places: str) -> Settings:
    return Settings.model_validate(
        {
            "database": {"url": database},
            "broker": {"url": redis_url},
            "storage": {"url": storage_url},
            "upload": {"max_bytes": 1024**2},
            "quota": {"stored_bytes": 512 * 1024},
            "lease": {"seconds": 5, "renew_seconds": 0.1, "scan_seconds": 0.1},
            "fetch": {
                "allowed": list(places),
                "allowed_networks": "127.0.0.0/8, ::1/128",
                "seconds": 5,
                "idle_seconds": 2,
            },
        }
    )


@pytest.fixture
def worker(
    database: str, redis_url: str, storage_url: str, host: Host, tmp_path: Path
) -> Iterator[Worker]:
    settings = settings_for(database, redis_url, storage_url, f"{host.url}/released")
    with worker_with(settings, tmp_path) as made:
        yield made


def refer(worker: Worker, url: str, tenant: str = "t", **more: Any) -> str:
    """Name a model by its address, as the gateway does."""
    with worker.sessions.begin() as session:
        reference = ModelReference(url=url, **more)
        row = models.referred(tenant, reference)
        return references.add(session, worker.settings, row, reference).id


def row_of(worker: Worker, model: str) -> ModelRow:
    with worker.sessions() as session:
        return session.get_one(ModelRow, model)


def refused(worker: Worker, model: str, kind: str) -> str:
    """Return why a model was rejected; nothing of it is left in the storage."""
    row = row_of(worker, model)
    assert (row.status, row.size_bytes) == ("rejected", 0), row.problem
    assert row.problem is not None
    assert row.problem["type"] == kind, row.problem
    with worker.sessions() as session:
        assert session.get(FetchRow, model) is None
    root = Path(worker.settings.storage.url.removeprefix("file://"))
    assert [path for path in root.rglob("*") if path.is_file()] == []
    return str(row.problem["detail"])


# --- What comes of it -------------------------------------------------------------------------


@pytest.mark.parametrize("named", [None, SHA256, SHA256.upper()])
def test_a_file_is_fetched_and_then_waits_for_its_inspection(
    worker: Worker, host: Host, named: str | None
) -> None:
    model = refer(worker, f"{host.url}/released/net.onnx?signature=s", sha256=named)
    with worker.sessions.begin() as session:
        assert turns.next_upload(session, {}) is None, "there is nothing to inspect yet"
    assert fetch_next(worker)
    assert not fetch_next(worker)
    row = row_of(worker, model)
    assert (row.status, row.sha256, row.size_bytes) == ("inspecting", SHA256, len(MODEL))
    assert row.filename == "net.onnx"
    assert host.asked == ["/released/net.onnx?signature=s"]
    with worker.sessions.begin() as session:
        assert session.get(FetchRow, model) is None, "an address may hold a secret"
        assert turns.next_upload(session, {}) == ("model", model)
    worker.blobs.fetch(SHA256, worker.directory / "copy")
    assert (worker.directory / "copy").read_bytes() == MODEL


def test_a_dataset_is_fetched_as_well(worker: Worker, host: Host) -> None:
    with worker.sessions.begin() as session:
        reference = DatasetReference(url=f"{host.url}/released/net.onnx", mean=[0.5])
        row = datasets.referred("t", reference)
        made = references.add(session, worker.settings, row, reference).id
    assert fetch_next(worker)
    with worker.sessions() as session:
        row = session.get_one(DatasetRow, made)
        assert (row.sha256, row.images["mean"]) == (SHA256, [0.5])


def test_an_object_is_fetched_from_a_bucket(
    database: str, redis_url: str, storage_url: str, tmp_path: Path
) -> None:
    with s3.server() as endpoint:
        with s3.client(endpoint) as client:
            for key in ("models/t/a net.onnx", "models/other/net.onnx"):
                client.put_object(Bucket=s3.BUCKET, Key=key, Body=MODEL)
        place = f"s3://{s3.BUCKET}/models/{{tenant}}?endpoint={endpoint}&region=us-east-1"
        settings = settings_for(database, redis_url, storage_url, place)
        with worker_with(settings, tmp_path) as worker:
            model = refer(worker, f"s3://{s3.BUCKET}/models/t/a%20net.onnx", sha256=SHA256)
            missing = refer(worker, f"s3://{s3.BUCKET}/models/t/none")
            assert fetch_next(worker)
            assert fetch_next(worker)
            assert row_of(worker, model).sha256 == SHA256
            assert row_of(worker, model).filename == "a net.onnx"
            problem = row_of(worker, missing).problem
    assert problem is not None
    assert "no such object" in problem["detail"]


# --- What is refused --------------------------------------------------------------------------


def test_other_bytes_than_the_named_ones_are_rejected(worker: Worker, host: Host) -> None:
    model = refer(worker, f"{host.url}/released/net.onnx", sha256="0" * 64)
    assert fetch_next(worker)
    assert SHA256 in refused(worker, model, "checksum-mismatch")


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (status(404), "fetch-failed", "answered 404"),
        (status(401), "fetch-failed", "answered 401"),
        (content(b""), "invalid", "empty"),
        (content(b"<!doctype html>" * 20), "unsupported-media-type", "web page"),
        (content(MODEL, Content_Encoding="gzip"), "fetch-failed", "encoding"),
        (content(b"", announced=2 * 1024**2), "too-large", "1048576"),
        (content(b"", announced=600 * 1024), "too-many-requests", "quota"),
        (content(bytes(600 * 1024)), "too-many-requests", "quota"),
        (endless, "too-large", "1048576"),
    ],
)
def test_what_is_no_file_or_too_large_is_rejected(
    worker: Worker, host: Host, answer: Any, kind: str, words: str
) -> None:
    host.answers["/released/net.onnx"] = answer
    model = refer(worker, f"{host.url}/released/net.onnx")
    assert fetch_next(worker)
    assert words in refused(worker, model, kind)


def test_a_file_that_does_not_come_to_an_end_is_given_up(worker: Worker, host: Host) -> None:
    host.answers["/released/net.onnx"] = host.drip
    limits = worker.settings.fetch.model_copy(update={"seconds": 0.5})
    hasty = replace(worker, settings=worker.settings.model_copy(update={"fetch": limits}))
    model = refer(worker, f"{host.url}/released/net.onnx")
    assert fetch_next(hasty)
    assert "within 0.5 s" in refused(worker, model, "fetch-failed")


@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.1:1/released/net.onnx",
        "http://169.254.169.254/latest/meta-data",
        "{url}/secret/net.onnx",
        "/secret",
        "//127.0.0.1/released/net.onnx",
        "s3://bucket/released/net.onnx",
        "file:///etc/passwd",
        "http://user:password@localhost/released/net.onnx",
        "%2e%2e/secret",
    ],
)
def test_a_redirect_leads_nowhere_else(worker: Worker, host: Host, target: str) -> None:
    host.answers["/secret"] = host.answers["/secret/net.onnx"] = content(MODEL)
    host.answers["/released/away"] = status(302, Location=target.format(url=host.url))
    model = refer(worker, f"{host.url}/released/away")
    assert fetch_next(worker)
    refused(worker, model, "fetch-failed")
    assert host.asked == ["/released/away"]


def test_a_redirect_within_permitted_places_is_followed_not_for_ever(
    worker: Worker, host: Host
) -> None:
    host.answers["/released/latest"] = status(302, Location="net.onnx")
    host.answers["/released/circle"] = status(307, Location="circle")
    model, circle = (refer(worker, f"{host.url}/released/{name}") for name in ("latest", "circle"))
    assert fetch_next(worker)
    assert fetch_next(worker)
    assert row_of(worker, model).sha256 == SHA256
    problem = row_of(worker, circle).problem
    assert problem is not None
    assert "more than 5 times" in problem["detail"]


def test_a_permitted_name_with_a_private_address_is_not_called(worker: Worker, host: Host) -> None:
    public = worker.settings.fetch.model_copy(update={"allowed_networks": []})
    strict = replace(worker, settings=worker.settings.model_copy(update={"fetch": public}))
    model = refer(worker, f"{host.url}/released/net.onnx")
    assert fetch_next(strict)
    assert "FETCH_ALLOWED_NETWORKS" in refused(worker, model, "fetch-failed")
    assert host.asked == []


def test_a_place_that_is_no_longer_allowed_is_not_called(worker: Worker, host: Host) -> None:
    model = refer(worker, f"{host.url}/released/net.onnx")
    none = worker.settings.fetch.model_copy(update={"allowed": []})
    assert fetch_next(replace(worker, settings=worker.settings.model_copy(update={"fetch": none})))
    refused(worker, model, "fetch-failed")
    assert host.asked == []


# --- What passes ------------------------------------------------------------------------------


def again(worker: Worker) -> None:
    """Let the pause after a failed attempt be over."""
    with worker.sessions.begin() as session:
        session.execute(text("UPDATE fetches SET not_before = now()"))


@pytest.mark.parametrize("fault", [status(503), content(MODEL, announced=len(MODEL) + 1)])
def test_what_breaks_off_is_fetched_again(worker: Worker, host: Host, fault: Any) -> None:
    host.answers["/released/net.onnx"] = in_turn(fault, content(MODEL))
    model = refer(worker, f"{host.url}/released/net.onnx")
    assert fetch_next(worker)
    assert not fetch_next(worker), "it waits a little"
    again(worker)
    assert fetch_next(worker)
    assert row_of(worker, model).sha256 == SHA256


def test_what_breaks_off_each_time_is_rejected(worker: Worker, host: Host) -> None:
    host.answers["/released/net.onnx"] = status(500)
    model = refer(worker, f"{host.url}/released/net.onnx")
    for _ in range(worker.settings.lease.attempts):
        again(worker)
        assert fetch_next(worker)
    assert "again and again" in refused(worker, model, "fetch-failed")


def test_a_worker_that_dies_leaves_the_fetch_to_another(worker: Worker, host: Host) -> None:
    model = refer(worker, f"{host.url}/released/net.onnx")
    losses = worker.settings.lease.losses

    def lose() -> None:
        again(worker)
        with worker.sessions.begin() as session:
            assert fetches.claim_next(session, "dead", -60) is not None
            reaping.reap_fetches(session, losses)

    for _ in range(losses - 1):
        lose()
    again(worker)
    assert fetch_next(worker)
    assert row_of(worker, model).sha256 == SHA256
    deadly = refer(worker, f"{host.url}/released/net.onnx")
    for _ in range(losses):
        lose()
    problem = row_of(worker, deadly).problem
    assert problem is not None
    assert problem["type"] == "fetch-failed"


@pytest.fixture
def patient(worker: Worker) -> Worker:
    """A worker none of whose fetches ends by itself, however slow."""
    fetch = worker.settings.fetch.model_copy(update={"seconds": 300, "idle_seconds": 60})
    return replace(worker, settings=worker.settings.model_copy(update={"fetch": fetch}))


def test_a_model_that_is_deleted_meanwhile_is_fetched_no_further(
    patient: Worker, host: Host
) -> None:
    host.answers["/released/net.onnx"] = host.drip
    model = refer(patient, f"{host.url}/released/net.onnx")
    fetching = threading.Thread(target=fetch_next, args=(patient,))
    fetching.start()
    eventually(lambda: host.asked, what="the first byte")
    with patient.sessions.begin() as session:
        models.delete(session, "t", model)
    fetching.join(60)
    assert not fetching.is_alive()
    root = Path(patient.settings.storage.url.removeprefix("file://"))
    assert [path for path in root.rglob("*") if path.is_file()] == []


def test_slow_hosts_of_one_tenant_leave_room_for_another(patient: Worker, host: Host) -> None:
    host.answers["/released/slow"] = host.drip
    slow = [refer(patient, f"{host.url}/released/slow", "greedy") for _ in range(10)]
    quick = refer(patient, f"{host.url}/released/net.onnx", "modest")
    fetching = threading.Thread(target=fetch_due, args=(patient,))
    fetching.start()
    try:
        eventually(lambda: row_of(patient, quick).sha256 == SHA256, 60)
    finally:
        patient.stopping.set()
        patient.fetch_due.set()
        fetching.join()
    assert host.asked.count("/released/slow") <= fetches.MOST_OF_A_TENANT
    with patient.sessions() as session:
        for model in slow:
            row = session.get_one(FetchRow, model)
            assert (row.attempts, row.lease_expires_at) == (0, None), "given back, not spent"
