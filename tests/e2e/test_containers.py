"""Workers as they are deployed: `planish worker` in containers, with the real engine and a job.

Fault 22 of the list: masked ``/proc``, no user namespaces, a read-only root, any user id.
"""

import io
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
from sqlalchemy.engine import make_url

import migrations
from app.local import postgres, redis
from app.local.server import Server
from app.settings import Database
from planish.cli import processes
from tests import containers, secrecy
from tests.containers import Circumstance
from tests.waiting import eventually
from tests.workers import zoo

STEPS = [
    {"method": "prune", "ratio": 0.5, "recover": {"epochs": 1}},
    {"method": "quantize", "mode": "static", "force": True},
]


class Fleet:
    """Stores and a gateway; the workers are where a test puts them."""

    def __init__(self, data: Path, running: ExitStack) -> None:
        self._running = running
        self._shared = data / "shared"
        """What workers in containers see: the storage, and where the stores listen."""
        self._shared.mkdir()
        self._shared.chmod(0o777)
        running.enter_context(database := postgres.server(data, {"fsync": "off"}))
        running.enter_context(broker := redis.server(data))
        migrations.upgrade(Database(url=database.url))
        url = make_url(database.url)
        for listening in (
            Path(str(url.query["host"]), ".s.PGSQL.5432"),
            Path(broker.url.removeprefix("redis+socket://")),
        ):
            (self._shared / listening.name).hardlink_to(listening)
            listening.chmod(0o777)
        storage = self._shared / "storage"
        storage.mkdir()
        storage.chmod(0o777)
        self.env = {
            **{name: value for name, value in os.environ.items() if "PYTEST" not in name},
            "DATABASE_URL": url.set(query={"host": str(self._shared)}).render_as_string(),
            "BROKER_URL": f"redis+socket://{self._shared}/redis.sock",
            "STORAGE_URL": storage.as_uri(),
            "AUTH_REQUIRED": "false",
            "ENGINE_THREADS": "1",
            "LEASE_SCAN_SECONDS": "0.5",
        }
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        quiet = {**self.env, "LOGGING_LEVEL": "warning"}
        gateway = processes.gateway("127.0.0.1", port, quiet)
        # What it stores is the workers' to change: where both are deployed, they are one user.
        gateway.argv = ["sh", "-c", 'umask 0; exec "$@"', "sh", *gateway.argv]
        running.enter_context(gateway)
        self.http = httpx.Client(base_url=gateway.url, timeout=30, trust_env=False)
        running.enter_context(self.http)

    @contextmanager
    def workers(self, where: Circumstance, **env: str) -> Iterator[Path]:
        """Run a machine's workers in a container; yield their log."""
        log = self._shared.with_name(f"{where.mode}.log")
        words = ("sh", "-c", 'log=$1; shift; exec "$@" 2>>"$log"', "sh", str(log))
        inside = [sys.executable, "-m", "planish", "worker"]
        argv = [*words, *where.words(self._shared), *inside]
        with Server(name=where.name, argv=argv, env={**self.env, "HOME": "/", **env}):
            try:
                yield log
            finally:
                sys.stderr.write(log.read_text())

    def seen(self) -> list[dict[str, Any]]:
        """Return the workers that ``/readyz`` shows."""
        workers: list[dict[str, Any]] = self.http.get("/readyz").json()["workers"]
        return workers

    def settled(self, path: str) -> dict[str, Any]:
        """Wait until an upload or a job is what it is going to be."""

        def look() -> dict[str, Any] | None:
            found: dict[str, Any] = self.http.get(path).json()
            return None if found["status"] in {"inspecting", "queued", "running"} else found

        return eventually(look, 120, f"the end of {path}")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with ExitStack() as running:
        yield Fleet(tmp_path_factory.mktemp("fleet"), running)


@pytest.mark.parametrize("where", containers.CIRCUMSTANCES, ids=str)
def test_22_a_whole_job_is_done_where_workers_are_deployed(
    fleet: Fleet, where: Circumstance
) -> None:
    images = io.BytesIO()
    np.savez(images, allow_pickle=False, image=zoo.feeds("residual", 96)["image"].numpy())
    model = zoo.path("residual").read_bytes()
    with fleet.workers(where) as log:
        made = fleet.http.post("/v1/models", content=model).json()
        data = fleet.http.post("/v1/datasets?filename=i.npz", content=images.getvalue()).json()
        assert fleet.settled(f"/v1/models/{made['id']}")["status"] == "ready"
        assert fleet.settled(f"/v1/datasets/{data['id']}")["status"] == "ready"
        body = {"model": made["id"], "dataset": data["id"], "steps": STEPS}
        answer = fleet.http.post("/v1/jobs", json=body)
        assert answer.status_code == 202, answer.text
        job = fleet.settled(f"/v1/jobs/{answer.json()['id']}")
        modes = {worker["queue"]: worker["confinement"]["mode"] for worker in fleet.seen()[-2:]}
    report = fleet.http.get(f"/v1/jobs/{job['id']}/report").json()
    written = log.read_text()
    assert (job["status"], job["attempts"]) == ("succeeded", 1), job
    [artifact] = job["artifacts"]
    onnx.checker.check_model(onnx.load_from_string(fleet.http.get(artifact["href"]).content))
    measured = job["compressed"]["peak_memory_bytes"]
    if where.mode == "filter":
        assert measured is None
        assert "Peak memory is not measured" in " ".join(report["evaluation"]["notes"])
    else:
        assert measured > 1 << 20
    assert modes == {"light": where.mode, "jobs": where.mode}
    assert secrecy.leaks(written) == []
    assert secrecy.plain(written) == []
