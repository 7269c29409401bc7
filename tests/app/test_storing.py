"""Bytes move while no transaction is open; the storage quota holds however many come at once."""

import random
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from app.blobs import Blob, Blobs, Incoming
from app.domain.models import ModelDescription
from app.settings import Settings
from app.store import counters, inspections, stats
from app.store.tables import UploadRow
from tests.app.service import MODEL, Service, sha256
from tests.app.serving import limited
from tests.waiting import eventually

MB = 1024**2
MIXED = random.Random(0)


def bytes_of(size: int) -> bytes:
    return MIXED.randbytes(size)


def upload(service: Service, content: bytes, path: str = "/v1/models") -> httpx.Response:
    return service.http.post(path, content=content)


def test_a_quota_holds_whatever_comes_at_once(settings: Settings, service: Service) -> None:
    contents = [bytes_of(2 * MB) for _ in range(12)]
    with limited(settings, service, stored_bytes=3 * MB) as http, ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda each: http.post("/v1/models", content=each), contents))
    assert Counter(each.status_code for each in answers) == {201: 1, 429: 11}
    with service.store() as session:
        assert stats.stored_bytes(session, "acme") == 2 * MB
        assert session.query(UploadRow).count() == 0, "no reservation is left"
        published = session.execute(text("SELECT count(*) FROM blobs")).scalar_one()
    assert published == 1, "what is refused is not published"
    assert all(int(each.headers["Retry-After"]) for each in answers if each.status_code == 429)


def test_no_transaction_is_open_while_bytes_move(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a slow bucket, 45 uploads of one tenant made everybody wait for 9 s."""
    arrived, go_on = threading.Semaphore(0), threading.Event()
    publish = Blobs.publish

    def slowly(self: Blobs, incoming: Incoming) -> None:
        arrived.release()
        assert go_on.wait(60)
        publish(self, incoming)

    monkeypatch.setattr(Blobs, "publish", slowly)
    count = 45
    with ThreadPoolExecutor(count) as pool:
        sent = [pool.submit(upload, service, bytes_of(1000)) for _ in range(count)]
        try:
            for _ in range(count):
                assert arrived.acquire(timeout=60)
            with service.store() as session:
                open_ones = session.execute(
                    text(
                        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                        " AND pid <> pg_backend_pid() AND state LIKE 'idle in transaction%'"
                    )
                ).scalar_one()
            assert open_ones == 0
            for http in (service.http, service.other):
                assert http.get("/v1/models", timeout=5).json()["items"] == []
        finally:
            go_on.set()
        assert {each.result().status_code for each in sent} == {201}


def test_what_is_sent_at_one_time_is_bounded_by_tenant(
    settings: Settings, service: Service
) -> None:
    go_on = threading.Event()
    incoming = Path(settings.storage.url.removeprefix("file://")) / "incoming"

    def body() -> Iterator[bytes]:
        yield bytes_of(1000)
        assert go_on.wait(60)
        yield b"end"

    with limited(settings, service, arriving_uploads=2) as http, ThreadPoolExecutor(2) as pool:
        sent = [pool.submit(http.post, "/v1/models", content=body()) for _ in range(2)]
        try:
            eventually(lambda: len(list(incoming.glob("*"))) >= len(sent), 60, "their arrival")
            for path in ("/v1/models", "/v1/datasets"):
                refused = http.post(path, content=b"more")
                assert (refused.status_code, refused.json()["type"]) == (429, "too-many-requests")
                assert int(refused.headers["Retry-After"]) > 0
            other = {"Authorization": service.other.headers["Authorization"]}
            assert http.post("/v1/models", content=b"theirs", headers=other).status_code == 201
        finally:
            go_on.set()
        assert {each.result().status_code for each in sent} == {201}
        assert http.post("/v1/models", content=b"more").status_code == 201


def test_bytes_that_a_collector_took_meanwhile_are_asked_for_again(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = Blobs.publish

    def too_slowly(self: Blobs, incoming: Incoming) -> None:
        publish(self, incoming)
        with service.store.begin() as session:
            session.execute(text("DELETE FROM blobs"))

    with monkeypatch.context() as patch:
        patch.setattr(Blobs, "publish", too_slowly)
        answer = upload(service, b"a model")
    assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
    assert upload(service, b"a model").status_code == 201


def test_our_copies_count_and_everything_is_given_back(service: Service) -> None:
    content = bytes_of(1000)
    model = upload(service, content).json()["id"]
    graph = Blob(sha256(b"graph"), 700, "")
    with service.store.begin() as session:
        claim = inspections.claim(session, inspections.TABLES["model"], model, "worker", 60)
        assert claim is not None
        onnx = Blob(sha256(content), len(content), "")
        inspections.accept_model(
            session, claim, ModelDescription.model_validate(MODEL), onnx, graph
        )
    job = service.job(model)["id"]
    service.start(job)
    service.finish(job)
    with service.store() as session:
        step = artifact = len(content)
        assert stats.stored_bytes(session, "acme") == 1700 + step + artifact
        assert stats.jobs_by_status(session)["succeeded"] == 1
    with service.store.begin() as session:
        counters.compact(session)
    service.http.delete(f"/v1/jobs/{job}").raise_for_status()
    service.http.delete(f"/v1/models/{model}").raise_for_status()
    with service.store() as session:
        assert stats.stored_bytes(session, "acme") == 0
        assert stats.jobs_by_status(session).get("succeeded", 0) == 0


def test_figures_stay_when_their_rows_are_merged_while_others_add(service: Service) -> None:
    def work(_: int) -> None:
        for _ in range(20):
            with service.store.begin() as session:
                counters.add(session, "figure", {"a": 1, "b": 0.5})

    merging = threading.Event()

    def merge() -> None:
        while not merging.is_set():
            with service.store.begin() as session:
                counters.compact(session)

    merger = threading.Thread(target=merge)
    merger.start()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    merging.set()
    merger.join()
    with service.store.begin() as session:
        counters.compact(session)
        assert counters.totals(session, "figure") == {"a": 80, "b": 40}
        rows = session.execute(text("SELECT count(*) FROM counters WHERE name = 'figure'"))
        assert rows.scalar_one() == 2
