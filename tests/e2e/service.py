"""A whole service of real processes, each of which a test may kill, stop and start again."""

import hashlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import onnx
import psutil
import psycopg
from sqlalchemy.engine import make_url

import migrations
from app.blobs import Blobs
from app.domain.jobs import FINISHED
from app.local import postgres, redis
from app.local.server import Server
from app.settings import Database
from planish.cli import processes
from tests import secrecy
from tests.e2e import engine
from tests.waiting import eventually

GIB = 1024**3

Json = dict[str, Any]

SETTINGS = {
    "LEASE_SECONDS": "2",
    "LEASE_RENEW_SECONDS": "0.2",
    "LEASE_SCAN_SECONDS": "0.5",
    "ENGINE_THREADS": "1",
    "ENGINE_REUSE_STEPS": "false",  # tests ask for the same steps, and watch them
    "ENGINE_MEMORY_BYTES": str(GIB),
    "ENGINE_DIRECTORY_BYTES": str(64 * 1024**2),
    "WORKER_LIGHT_SLOTS": "1",
    "WORKER_TOOLS": "/nowhere",
    "AUTH_REQUIRED": "false",
    "WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
    "FETCH_ALLOWED": "https://models.example.com/released",
    "WEBHOOK_TIMEOUT_SECONDS": "2",
}
RECLAIMED_SECONDS = 10.0
"""Within which a killed worker's job runs again, here and with the default settings."""

_FAST = {"fsync": "off", "full_page_writes": "off"}


class Service:
    """PostgreSQL, Redis, a gateway, a light worker and any number of job workers."""

    def __init__(self, data: Path, **settings: str) -> None:
        self.postgres = postgres.server(data, _FAST)
        self.redis = redis.server(data)
        self.directory = data / "workers"
        self._storage = data / "storage"
        self._env = {
            **{name: value for name, value in os.environ.items() if "PYTEST" not in name},
            **SETTINGS,
            "DATABASE_URL": make_url(self.postgres.url)
            .set(password=secrecy.PASSWORD)
            .render_as_string(hide_password=False),
            "AWS_SECRET_ACCESS_KEY": secrecy.STORAGE_KEY,
            "BROKER_URL": self.redis.url,
            "STORAGE_URL": self._storage.as_uri(),
            "WORKER_DIRECTORY": str(self.directory),
            **settings,
        }
        self._log = data / "log"
        self._log_read = 0
        self.gateway = self._logging(processes.gateway("127.0.0.1", _free_port(), self._env))
        self.light = self.worker("light")
        self.jobs = self.worker("jobs")
        self._more: list[Server] = []
        self.http = httpx.Client(
            base_url=self.gateway.url,
            headers={"Authorization": f"Bearer {secrecy.API_KEY}"},
            timeout=30,
            trust_env=False,
        )

    def worker(self, queue: str, **env: str) -> Server:
        """Return another worker process, with settings of its own; nothing is started yet."""
        argv = [sys.executable, "-m", "tests.e2e.worker", queue]
        return self._logging(Server(name=f"{queue} worker", argv=argv, env={**self._env, **env}))

    def _logging(self, server: Server) -> Server:
        """Let a server write its log where we read it."""
        append = ("sh", "-c", 'log=$1; shift; exec "$@" 2>>"$log"', "sh", str(self._log))
        server.argv = [*append, *server.argv]
        return server

    @contextmanager
    def more(self, queue: str = "jobs", **env: str) -> Iterator[Server]:
        """Run another worker for a while, with settings of its own."""
        with self._running(self.worker(queue, **env)) as server:
            yield server

    @contextmanager
    def asking_for_keys(self) -> Iterator[str]:
        """Run another gateway for a while, which asks for keys; return its address."""
        env = {**self._env, "AUTH_REQUIRED": "true"}
        with self._logging(processes.gateway("127.0.0.1", _free_port(), env)) as gateway:
            yield gateway.url

    @contextmanager
    def wrong_clock(self, minutes: int) -> Iterator[Server]:
        """Run another worker for a while whose clock is wrong."""
        server = self.worker("jobs")
        self.set_clock(server, minutes)
        with self._running(server):
            yield server

    def set_clock(self, server: Server, minutes: int) -> None:
        """Have a worker of the queue ``jobs`` start with a clock that is off by so much."""
        words = list(server.argv)
        server.argv = [*words[: words.index("jobs") + 1], str(minutes * 60)]

    @contextmanager
    def _running(self, server: Server) -> Iterator[Server]:
        with server:
            self._more.append(server)
            try:
                self.await_worker(server)
                yield server
            finally:
                self._more.remove(server)

    @contextmanager
    def asleep(self, server: Server) -> Iterator[None]:
        """Stop a process for the context, as if it had no turn."""
        assert server.pid is not None
        os.kill(server.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(server.pid, signal.SIGCONT)

    def holder(self, job_id: str) -> Server:
        """Return the worker process that runs a job."""
        ((pid,),) = self.rows(
            "SELECT w.pid FROM workers w JOIN jobs j ON j.lease_owner = w.id WHERE j.id = %s",
            job_id,
        )
        return next(server for server in (self.jobs, *self._more) if server.pid == pid)

    def busy(self, server: Server) -> bool:
        """Whether a worker process has a directory in which a job is worked off."""
        ((worker,),) = self.rows("SELECT id FROM workers WHERE pid = %s", server.pid)
        return any((self.directory / worker).glob("*/"))

    def start(self) -> None:
        """Start everything, and return when the workers have announced themselves."""
        self.postgres.start()
        self.redis.start()
        migrations.upgrade(Database(url=self.postgres.url))
        for server in (self.gateway, self.light, self.jobs):
            server.start()
        for server in (self.light, self.jobs):
            self.await_worker(server)

    def stop(self) -> None:
        """Stop everything that still runs."""
        self.http.close()
        for server in (self.jobs, self.light, self.gateway, self.redis, self.postgres):
            if server.pid is not None:
                os.kill(server.pid, signal.SIGCONT)
            server.stop(grace_s=5)

    def restart(self, server: Server, number: signal.Signals = signal.SIGKILL) -> None:
        """End a server by a signal and start it again."""
        self.end(server, number)
        server.start()

    def end(self, server: Server, number: signal.Signals = signal.SIGKILL) -> None:
        """End a server by a signal, and wait for that."""
        assert server.pid is not None
        os.kill(server.pid, number)
        eventually(lambda: server.pid is None, what=f"the end of {server.name}")
        server.stop()

    def await_worker(self, server: Server) -> None:
        """Wait until a worker process has announced itself."""
        pid = server.pid
        eventually(
            lambda: self.rows("SELECT 1 FROM workers WHERE pid = %s", pid), 60, "the announcement"
        )

    def workers(self) -> list[Json]:
        """Return the workers that ``/readyz`` shows."""
        workers: list[Json] = self.http.get("/readyz").json()["workers"]
        return workers

    def planish(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command of ours with the settings of the service."""
        argv = [sys.executable, "-m", "planish", *words]
        return subprocess.run(argv, env=self._env, capture_output=True, text=True, check=False)

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Ask the database itself."""
        with psycopg.connect(self.postgres.url, autocommit=True) as connection:
            cursor = connection.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    # --- what users do ---------------------------------------------------------------------

    def upload(self, model: bytes) -> str:
        """Upload a model and wait until it is ready."""
        made = self.http.post("/v1/models", content=model, headers=_BYTES).json()
        ready = eventually(
            lambda: self._settled(f"/v1/models/{made['id']}", "inspecting"), what="inspection"
        )
        assert ready["status"] == "ready", ready
        return str(made["id"])

    def submit(self, model: str, *words: str, **request: Any) -> str:
        """Submit a job whose step has these words for the engine of the tests."""
        step = {"method": "quantize", "mode": "float16", "force": True, "ignore": list(words)}
        answer = self.http.post("/v1/jobs", json={"model": model, "steps": [step], **request})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def submit_twice_the_step(self, model: str, *words: str) -> str:
        """Submit a job that does the same step twice, which no plan of ours would allow yet."""
        hold = "UPDATE models SET status = 'inspecting', not_before = now() + interval '1 hour'"
        self.rows(f"{hold} WHERE id = %s", model)
        job_id = self.submit(model, *words)
        twice = "jsonb_set(request, '{steps}', request->'steps' || (request->'steps'))"
        self.rows(f"UPDATE jobs SET request = {twice} WHERE id = %s", job_id)
        self.rows("UPDATE models SET status = 'ready', not_before = now() WHERE id = %s", model)
        return job_id

    def job(self, job_id: str) -> Json:
        """Return a job as its API shows it."""
        answer = self.http.get(f"/v1/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found

    def running(self, job_id: str, progress: float = 0.01) -> Json:
        """Wait until a job has got so far."""

        def far() -> Json | None:
            job = self.job(job_id)
            assert job["status"] in {"queued", "running"}, job
            return job if job["progress"] >= progress and job["status"] == "running" else None

        return eventually(far, what="progress")

    def finished(self, job_id: str, seconds: float = 60) -> Json:
        """Wait for the terminal state of a job."""

        def over() -> Json | None:
            job = self.job(job_id)
            return job if job["finished_at"] else None

        return eventually(over, seconds, "the end of the job")

    def artifact(self, job: Json) -> bytes:
        """Download a job's only artifact."""
        (artifact,) = job["artifacts"]
        return self.http.get(artifact["href"]).content

    def assert_undisturbed(
        self, job_id: str, epochs: list[int], copies: int = engine.COPIES
    ) -> Json:
        """Assert that a job succeeded, once, with the artifact of a run that nothing disturbed."""
        job = self.finished(job_id)
        assert job["status"] == "succeeded", job
        ((graph,),) = self.rows("SELECT graph_sha256 FROM models WHERE id = %s", job["model"])
        undisturbed = engine.expected(self.stored(graph), epochs, copies=copies)
        assert self.artifact(job) == undisturbed
        assert job["artifacts"][0]["sha256"] == hashlib.sha256(undisturbed).hexdigest()
        assert [each for each in self.states(job_id) if each in FINISHED] == ["succeeded"]
        return job

    def states(self, job_id: str) -> list[str]:
        """Return the states that the job's event stream tells, and check its numbers."""
        told = self.rows(
            "SELECT number, kind, data->>'status' FROM events WHERE job_id = %s ORDER BY 1", job_id
        )
        assert [number for number, *_ in told] == list(range(1, len(told) + 1))
        return [status for _, kind, status in told if kind == "state"]

    def _settled(self, path: str, unsettled: str) -> Json | None:
        found: Json = self.http.get(path).json()
        return found if found["status"] != unsettled else None

    # --- the storage -----------------------------------------------------------------------

    def stored(self, sha256: str) -> bytes:
        """Return the bytes of a blob."""
        copy = self.directory.with_name("copy")
        Blobs.open(self._env["STORAGE_URL"]).fetch(sha256, copy)
        return copy.read_bytes()

    def blobs(self) -> set[Path]:
        """Return every stored blob."""
        return {path for path in (self._storage / "blobs").rglob("*") if path.is_file()}

    def incoming(self) -> list[Path]:
        """Return the uploads that are on their way."""
        return list((self._storage / "incoming").glob("*"))

    def sweep(self) -> None:
        """Remove what killed processes left in the storage, as upkeep does after the grace."""
        Blobs.open(self._env["STORAGE_URL"]).sweep(timedelta(0))

    # --- what must not be left -------------------------------------------------------------

    def engines(self, server: Server) -> list[psutil.Process]:
        """Return the engine processes under a worker: what its fork server has forked."""
        found: list[psutil.Process] = []
        for child in psutil.Process(server.pid).children():
            with suppress(psutil.NoSuchProcess):  # it ended while we looked
                found += child.children(recursive=True)
        return found

    def assert_clean(self) -> None:
        """Assert that nobody has left a process, a job's directory or an unfinished upload."""
        for server in (self.light, self.jobs):
            if server.pid is not None:
                eventually(lambda at=server: not self.engines(at), what="the engine's end")  # type: ignore[misc]
        eventually(lambda: not self._places(), 120, "the removal of job directories")
        eventually(lambda: not self.incoming(), what="the removal of unfinished uploads")

    def assert_discreet(self) -> None:
        """Show what was logged since the last time; assert that it is JSON, without a secret."""
        written = self._written()
        sys.stderr.write(written)
        assert self._indiscreet(written) == []

    def indiscreet(self) -> list[str]:
        """Return the lines logged since the last time that hold a secret, or are no JSON."""
        return self._indiscreet(self._written())

    def _written(self) -> str:
        with self._log.open(errors="replace") as log:
            log.seek(self._log_read)
            written = log.read()
            self._log_read = log.tell()
        return written

    def _indiscreet(self, written: str) -> list[str]:
        signing = [secret for (secret,) in self.rows("SELECT secret FROM webhooks")]
        return [*secrecy.leaks(written, *signing), *secrecy.plain(written)]

    def complaints(self) -> list[str]:
        """Return what was logged as a fault of ours."""
        with self._log.open(errors="replace") as log:
            return [line for line in log if '"level": "error"' in line]

    def _places(self) -> list[Path]:
        return [place for root in self.directory.glob("wrk_*/") for place in root.glob("*/")]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


_BYTES = {"Content-Type": "application/octet-stream"}


def small_model(seed: int = 0) -> bytes:
    """Return a small network as ONNX bytes, another one for each seed."""
    model = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["" : 17]>
        small (float[N, 2] x) => (float[N, 2] y)
        <float[2, 2] w = {{1.0, 2.0, 3.0, {seed}.5}}> {{ y = MatMul(x, w) }}
    """)
    data: bytes = model.SerializeToString()
    return data
