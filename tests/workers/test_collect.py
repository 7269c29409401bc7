"""What nobody refers to is collected by one worker, and what somebody refers to is not."""

import os
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError
from sqlalchemy import func, text

from app.blobs import blob_key
from app.domain import ids
from app.domain.problems import NotFound
from app.settings import Settings
from app.store import blob_rows, chores, transitions
from app.store.session import Sessions
from app.store.tables import BlobRow, JobRow, ModelRow, UploadRow
from tests.workers.worker import settings_of, worker_with
from workers.upkeep.collect import CHORE, EVERY_SECONDS, collect
from workers.worker import Worker

OLD = "2 hours"
REQUEST = {"model": "mdl", "steps": [{"method": "quantize", "mode": "dynamic"}]}


@pytest.fixture
def worker(database: str, redis_url: str, storage_url: str, tmp_path: Path) -> Iterator[Worker]:
    with worker_with(settings_of(database, redis_url, storage_url), tmp_path) as made:
        with made.sessions.begin() as session:
            assert chores.take(session, CHORE, made.id, EVERY_SECONDS)
        yield made


def stored(worker: Worker, tmp_path: Path, content: bytes, *, row: bool = True) -> str:
    """Store bytes, with or without their row; both are old."""
    path = tmp_path / "content"
    path.write_bytes(content)
    blob = worker.blobs.put_file(path)
    root = Path(worker.settings.storage.url.removeprefix("file://"))
    old = time.time() - 7200
    os.utime(root / blob_key(blob.sha256), (old, old))
    if row:
        with worker.sessions.begin() as session:
            blob_rows.touch(session, blob.sha256, blob.size_bytes)
            session.flush()
            session.execute(
                text("UPDATE blobs SET touched_at = now() - cast(:old AS interval)"), {"old": OLD}
            )
    return blob.sha256


def there(worker: Worker, sha256: str, tmp_path: Path) -> bool:
    try:
        worker.blobs.fetch(sha256, tmp_path / "fetched")
    except NotFound:
        return False
    return True


def refer(store: Sessions, sha256: str) -> None:
    with store.begin() as session:
        blob_rows.touch(session, sha256, 1)
        session.flush()
        session.add(ModelRow(id=ids.new("mdl"), tenant="t", sha256=sha256, size_bytes=1))


def test_what_is_referred_to_stays_and_the_rest_goes(worker: Worker, tmp_path: Path) -> None:
    kept, orphan, unknown = (
        stored(worker, tmp_path, content, row=content != b"unknown")
        for content in (b"kept", b"orphan", b"unknown")
    )
    refer(worker.sessions, kept)
    with worker.sessions.begin() as session:
        session.execute(text("UPDATE blobs SET touched_at = now() - interval '2 hours'"))
    collect(worker)
    assert there(worker, kept, tmp_path)
    assert not there(worker, orphan, tmp_path)
    assert not there(worker, unknown, tmp_path)
    with worker.sessions() as session:
        assert session.get(BlobRow, kept) is not None
        assert session.get(BlobRow, orphan) is None
        assert session.get(BlobRow, unknown) is None


@pytest.mark.parametrize("row", [True, False], ids=["with a row", "without one"])
def test_a_reference_that_is_made_meanwhile_keeps_its_bytes(
    worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: bool
) -> None:
    """Whoever refers to bytes while they are deleted waits, and stores them again."""
    sha256 = stored(worker, tmp_path, b"wanted", row=row)
    deleting, waiting = threading.Event(), threading.Event()
    delete = worker.blobs.delete

    def slowly(*words: object, **options: object) -> None:
        deleting.set()
        assert not waiting.wait(0.5), "the reference is not made before the bytes are gone"
        delete(*words, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(worker.blobs, "delete", slowly)

    def want() -> None:
        deleting.wait(10)
        refer(worker.sessions, sha256)
        waiting.set()
        worker.blobs.put_file(tmp_path / "content")

    thread = threading.Thread(target=want)
    thread.start()
    collect(worker)
    thread.join(10)
    assert there(worker, sha256, tmp_path)
    with worker.sessions() as session:
        assert session.get(BlobRow, sha256) is not None


def test_what_a_run_has_stored_stays_while_it_stores_the_rest(
    worker: Worker, tmp_path: Path
) -> None:
    """The first of its files may be older than the grace when the last is stored."""
    of_run = stored(worker, tmp_path, b"of the run")
    with worker.sessions.begin() as session:
        job = JobRow(id=ids.new("job"), tenant="t", tags=[], model_id="mdl", request=REQUEST)
        session.add(job)
        session.flush()
        transitions.take(session, job, "a worker", 60)
        session.execute(text("UPDATE jobs SET claimed_at = now() - interval '3 hours'"))
        job_id = job.id
    before = stored(worker, tmp_path, b"of earlier work")
    with worker.sessions.begin() as session:
        session.execute(
            text("UPDATE blobs SET touched_at = now() - interval '4 hours' WHERE sha256 = :it"),
            {"it": before},
        )
    root = Path(worker.settings.storage.url.removeprefix("file://"))
    on_its_way = root / "incoming" / "x"
    on_its_way.parent.mkdir(exist_ok=True)
    on_its_way.write_bytes(b"half")
    os.utime(on_its_way, (time.time() - 7200,) * 2)
    collect(worker)
    assert there(worker, of_run, tmp_path)
    assert on_its_way.exists()
    assert not there(worker, before, tmp_path)
    with worker.sessions.begin() as session:
        transitions.finish(session, session.get_one(JobRow, job_id), "failed")
    collect(worker)
    assert not there(worker, of_run, tmp_path)
    assert not on_its_way.exists()


@pytest.mark.parametrize("publishing", [True, False])
def test_a_complete_upload_that_nobody_uses_holds_nothing_up(
    worker: Worker, tmp_path: Path, publishing: bool
) -> None:
    """A request that publishes bytes has reserved their room by a row without parts."""
    orphan = stored(worker, tmp_path, b"orphan")
    with worker.sessions.begin() as session:
        begun, ends = (func.now() + timedelta(hours=hours) for hours in (-3, 1))
        row = UploadRow(id=ids.new("upl"), tenant="t", length=5, offset=5, metadata_="")
        row.parts, row.created_at, row.expires_at = 0 if publishing else 1, begun, ends
        session.add(row)
    collect(worker)
    assert there(worker, orphan, tmp_path) is publishing


def test_one_worker_collects_and_a_silent_one_is_replaced(worker: Worker) -> None:
    with worker.sessions.begin() as session:
        assert not chores.take(session, CHORE, "another", EVERY_SECONDS), "somebody is at it"
        session.execute(text("UPDATE chores SET until = now() - interval '1 s'"))
        assert chores.take(session, CHORE, "another", EVERY_SECONDS)
        assert not chores.keep(session, CHORE, worker.id)
        chores.done(session, CHORE, "another")
    with worker.sessions.begin() as session:
        assert not chores.take(session, CHORE, worker.id, EVERY_SECONDS), "it was just done"
        session.execute(text("UPDATE chores SET done_at = now() - interval '61 minutes'"))
        assert chores.take(session, CHORE, worker.id, EVERY_SECONDS)


def test_a_grace_below_what_is_trusted_is_refused() -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate({"storage": {"grace_minutes": 5}})
