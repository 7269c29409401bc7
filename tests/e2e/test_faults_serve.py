"""Fault 17: ``planish serve`` killed in the middle of a job, and started again on its data."""

import io
import os
import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import httpx
import numpy as np
import onnx
import psutil
import psycopg
import pytest

from app.blobs import Blobs
from app.domain.jobs import FINISHED
from app.local import postgres
from tests.e2e.service import Json
from tests.planish.test_serve import serving
from tests.waiting import eventually
from tests.workers.test_confinement import command

WIDTH = 1024
LAYERS = 4
STEPS = [{"method": "quantize", "mode": "static", "force": True, "calibration_samples": 256}]

NOBODY = 65534

_BYTES = {"Content-Type": "application/octet-stream"}


def _model() -> bytes:
    """A network that takes a while to calibrate."""
    random = np.random.default_rng(0)
    weights = [
        onnx.numpy_helper.from_array(
            random.normal(0, WIDTH**-0.5, (WIDTH, WIDTH)).astype(np.float32), f"w{index}"
        )
        for index in range(LAYERS)
    ]
    nodes = []
    for index in range(LAYERS):
        nodes += [
            onnx.helper.make_node("MatMul", [f"x{index}", f"w{index}"], [f"y{index}"]),
            onnx.helper.make_node("Relu", [f"y{index}"], [f"x{index + 1}"]),
        ]
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", WIDTH])
        for name in ("x0", f"x{LAYERS}")
    ]
    graph = onnx.helper.make_graph(nodes, "deep", ends[:1], ends[1:], weights)
    opset = [onnx.helper.make_opsetid("", 17)]
    data: bytes = onnx.helper.make_model(
        graph, ir_version=8, opset_imports=opset
    ).SerializeToString()
    return data


def _data() -> bytes:
    held = io.BytesIO()
    samples = np.random.default_rng(1).normal(size=(512, WIDTH)).astype(np.float32)
    np.savez(held, allow_pickle=False, x0=samples)
    return held.getvalue()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The SHA-256 of what a run makes that nothing disturbs."""
    with serving(tmp_path_factory.mktemp("undisturbed") / "data") as (_, url):
        return _sha256(_finished(url, _submit(url)))


def _submit(url: str) -> str:
    with httpx.Client(base_url=url, timeout=30, headers=_BYTES) as http:
        model = http.post("/v1/models", content=_model()).json()["id"]
        dataset = http.post("/v1/datasets", content=_data()).json()["id"]
        request = {"model": model, "dataset": dataset, "steps": STEPS}
        answer = http.post("/v1/jobs", json=request, headers={"Content-Type": "application/json"})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])


def _job(url: str, job_id: str) -> Json:
    found: Json = httpx.get(f"{url}/v1/jobs/{job_id}", timeout=30).raise_for_status().json()
    return found


def _in_the_middle(url: str, job_id: str) -> None:
    """Wait until the engine works on the step."""
    job = eventually(lambda: _job_from(url, job_id, 0.1), 90, "progress")
    assert job["status"] == "running", "the job has to be longer than this"


def _job_from(url: str, job_id: str, progress: float) -> Json | None:
    job = _job(url, job_id)
    return job if job["progress"] >= progress else None


def _finished(url: str, job_id: str) -> Json:
    job = eventually(lambda: _job_from(url, job_id, 1), 120, "the end of the job")
    assert job["status"] == "succeeded", job
    return job


def _sha256(job: Json) -> str:
    (artifact,) = job["artifacts"]
    return str(artifact["sha256"])


def _states(data: Path, job_id: str) -> list[str]:
    with psycopg.connect(postgres.server(data).url) as connection:
        told = connection.execute(
            "SELECT number, kind, data->>'status' FROM events WHERE job_id = %s ORDER BY 1",
            [job_id],
        ).fetchall()
    assert [number for number, *_ in told] == list(range(1, len(told) + 1))
    return [status for _, kind, status in told if kind == "state"]


def _kill_at_once(service: psutil.Process) -> None:
    """Kill a whole tree as a power cut does: nobody has time to notice that another one died."""
    tree = [service, *service.children(recursive=True)]
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for each in tree:
            with suppress(psutil.NoSuchProcess):
                each.send_signal(number)
    _, alive = psutil.wait_procs(tree, timeout=60)
    assert alive == []


def _assert_goes_on(home: Path, url: str, job_id: str, undisturbed: str) -> Json:
    """Assert that the job ends as if nothing had been, and that nothing of it is left."""
    data, workers = home / "data", home / "workers"
    job = _finished(url, job_id)
    assert _sha256(job) == undisturbed
    assert [each for each in _states(data, job_id) if each in FINISHED] == ["succeeded"]
    Blobs.open((data / "blobs").as_uri()).sweep(timedelta(0))  # what was cut, after the grace
    assert list((data / "blobs" / "incoming").glob("*")) == []
    eventually(lambda: not list(workers.glob("wrk_*/*/")), what="clearing up")
    eventually(lambda: len(list(workers.glob("wrk_*/"))) == 2, what="one for each worker alive")
    return job


@pytest.fixture(params=["as started", "ordinary user"])
def user(request: pytest.FixtureRequest) -> Sequence[str]:
    """The words that make a command this user's."""
    return command(request.param)


@pytest.fixture
def home(user: Sequence[str]) -> Iterator[Path]:
    """A directory of the user's, where they may go."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="planish-test-") as made:
        if user:
            os.chown(made, NOBODY, NOBODY)
        yield Path(made)


@contextmanager
def _serving(home: Path, user: Sequence[str] = ()) -> Iterator[tuple[psutil.Process, str]]:
    """Run a service; hand out its own process, which may be below its user's shell, and its URL."""
    more = {"WORKER_DIRECTORY": str(home / "workers"), "HOME": str(home)}
    with serving(home / "data", before=user, **more) as (process, url):
        service = psutil.Process(process.pid)
        service = service.children()[0] if user else service
        yield service, url
        if service.is_running():
            service.terminate()
        process.wait(60)


def test_17_killed_with_everything_under_it_it_goes_on_with_the_same_data(
    home: Path, undisturbed: str, user: Sequence[str]
) -> None:
    with _serving(home, user) as (service, url):
        job_id = _submit(url)
        _in_the_middle(url, job_id)
        _kill_at_once(service)
    left = home / "data" / "postgres" / "cluster" / "postmaster.pid"
    assert left.exists(), "it could be in the way"
    with _serving(home, user) as (_, url):
        job = _assert_goes_on(home, url, job_id, undisturbed)
        assert job["attempts"] == 2
        told = _states(home / "data", job_id)
        assert told == ["queued", "running", "queued", "running", "succeeded"]
    assert list((home / "workers").iterdir()) == []


def test_17_killed_alone_it_leaves_nothing_that_runs_on_or_is_in_the_way(
    tmp_path: Path, undisturbed: str
) -> None:
    with _serving(tmp_path) as (service, url):
        job_id = _submit(url)
        _in_the_middle(url, job_id)
        orphans = service.children(recursive=True)
        service.kill()
    with _serving(tmp_path) as (_, url):
        _, alive = psutil.wait_procs(orphans, timeout=60)
        assert alive == []
        _assert_goes_on(tmp_path, url, job_id, undisturbed)
