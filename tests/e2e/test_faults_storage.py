"""Faults of the storage, numbered as in the list of faults: a full disk, an S3 that answers 503."""

import hashlib
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import s3
from tests.disk import MIB, filled, small_disk
from tests.e2e.service import Service, small_model
from tests.waiting import eventually

COPIES = 300_000
"""Of 32 bytes: 9.6 MB in a step's graph and again in the artifact, two parts of an S3 upload."""
LARGE = ("epochs=5", f"copies={COPIES}")


@contextmanager
def _running(service: Service) -> Iterator[Service]:
    try:
        service.start()
        yield service
        service.assert_discreet()
    finally:
        service.stop()


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with small_disk(tmp_path_factory.mktemp("full") / "storage", 48) as mounted:
        yield mounted


@pytest.fixture(scope="module")
def on_disk(disk: Path) -> Iterator[Service]:
    with _running(Service(disk.parent)) as service:
        yield service


def _assert_whole(service: Service) -> None:
    """Assert that no upload is left, and that every blob is what its name says."""
    assert service.incoming() == []
    for blob in service.blobs():
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
    service.assert_clean()


def _still(service: Service, job_id: str, seconds: float) -> None:
    """Watch that a job whose engine is done does not end for a while, and is not given up."""
    service.running(job_id, 0.99)
    eventually(lambda: not service.engines(service.jobs), what="the engine's end")
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        assert service.job(job_id)["status"] == "running"
        time.sleep(0.1)


def test_10_a_step_that_finds_the_disk_full_is_stored_when_there_is_space(
    on_disk: Service, disk: Path
) -> None:
    model = on_disk.upload(small_model())
    before = on_disk.blobs()
    with filled(disk, but=4 * MIB):
        job_id = on_disk.submit(model, *LARGE)
        _still(on_disk, job_id, 2)
        assert on_disk.blobs() == before
    job = on_disk.assert_undisturbed(job_id, [5], COPIES)
    assert job["attempts"] == 1
    assert on_disk.states(job_id) == ["queued", "running", "succeeded"]
    assert len(on_disk.blobs() - before) == 2
    _assert_whole(on_disk)


def test_10_an_upload_that_finds_the_disk_full_is_a_503_and_leaves_nothing(
    on_disk: Service, disk: Path
) -> None:
    before = on_disk.blobs()
    content = os.urandom(8 * MIB)
    with filled(disk, but=4 * MIB):
        answer = on_disk.http.post("/v1/models", content=content)
        assert (answer.status_code, answer.json()["type"]) == (503, "unavailable")
        assert int(answer.headers["Retry-After"]) > 0
        assert on_disk.blobs() == before
        assert on_disk.incoming() == []
    assert on_disk.http.post("/v1/models", content=content).status_code == 201
    _assert_whole(on_disk)


def test_10_an_inspection_that_finds_the_disk_full_ends_when_there_is_space(
    on_disk: Service, disk: Path
) -> None:
    assert on_disk.light.pid is not None
    os.kill(on_disk.light.pid, signal.SIGSTOP)
    made = on_disk.http.post("/v1/models", content=small_model(10)).json()
    path = f"/v1/models/{made['id']}"
    with filled(disk):
        os.kill(on_disk.light.pid, signal.SIGCONT)
        until = time.monotonic() + 3
        while time.monotonic() < until:
            assert on_disk.http.get(path).json()["status"] == "inspecting"
            time.sleep(0.1)
    eventually(lambda: on_disk.http.get(path).json()["status"] == "ready", what="inspection")
    _assert_whole(on_disk)


@dataclass
class Outage:
    """Begins with the first request that looks like this, and lasts for some seconds."""

    begins: str | None = None
    seconds: float = 2.0
    until: float = 0.0
    turned_away: int = 0

    def __call__(self, request: str) -> bool:
        if self.begins is not None and re.search(self.begins, request):
            self.begins, self.until = None, time.monotonic() + self.seconds
        away = time.monotonic() < self.until
        self.turned_away += away
        return away


@pytest.fixture(scope="module")
def outage() -> Outage:
    return Outage()


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with s3.server() as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def on_s3(
    tmp_path_factory: pytest.TempPathFactory, bucket: str, outage: Outage
) -> Iterator[Service]:
    with s3.turning_away(bucket, outage) as endpoint:
        storage = s3.url(endpoint, "faults")
        data = tmp_path_factory.mktemp("s3")
        with _running(Service(data, STORAGE_URL=storage)) as service:
            yield service


@pytest.mark.parametrize(
    ("seed", "begins"),
    [
        pytest.param(1, "^GET ", id="fetched"),
        pytest.param(2, "partNumber=2", id="half stored"),
        pytest.param(3, "^POST .*uploadId=", id="completed"),
        pytest.param(4, "^PUT .*/blobs/", id="published"),
    ],
)
def test_10_a_storage_that_answers_503_for_a_while_delays_a_job_and_truncates_nothing(
    on_s3: Service, bucket: str, outage: Outage, seed: int, begins: str
) -> None:
    """It begins when inputs are fetched, or when a step is in the middle of being stored."""
    model = on_s3.upload(small_model(seed))
    outage.begins, outage.turned_away = begins, 0
    job_id = on_s3.submit(model, *LARGE)
    job = on_s3.assert_undisturbed(job_id, [5], COPIES)
    assert outage.turned_away > 0
    assert job["attempts"] == 1
    assert on_s3.states(job_id) == ["queued", "running", "succeeded"]
    with s3.client(bucket) as storage:
        on_s3.sweep()  # what could not be removed while the storage was away
        left = storage.list_objects_v2(Bucket=s3.BUCKET, Prefix="faults/incoming/")
        assert left["KeyCount"] == 0
        assert "Uploads" not in storage.list_multipart_uploads(Bucket=s3.BUCKET)
    on_s3.assert_clean()
