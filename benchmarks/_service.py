"""The real service, in processes of its own, with nothing of the tests' shortcuts."""

import os
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import httpx
import psycopg

import migrations
from app.local import postgres, redis
from app.local.server import Server
from app.settings import Database
from planish.cli import processes

Json = dict[str, Any]

PATIENCE_S = 120.0


@dataclass(frozen=True)
class Stores:
    """A private PostgreSQL and Valkey, as ``planish serve`` starts them, and a storage."""

    database_url: str
    directory: Path
    """On the disk that the stores are on; gone with them."""
    env: Mapping[str, str]
    """What makes a gateway or a worker use them."""

    def gateway(self, **settings: str) -> Server:
        """Return a gateway on a free port; nothing is started yet."""
        return processes.gateway("127.0.0.1", free_port(), {**self.env, **settings})

    @contextmanager
    def worker(self, queue: str, module: str = "workers.celery") -> Iterator[Server]:
        """Run a worker process; it has announced itself.

        Args:
            queue: ``jobs`` or ``light``.
            module: ``workers.celery``, or ``tests.e2e.worker``, whose engine sleeps as it is told.
        """
        words = ["--queue", queue] if module == "workers.celery" else [queue]
        argv = [sys.executable, "-m", module, *words]
        with Server(name=f"{queue} worker", argv=argv, env=self.env) as server:
            until = time.monotonic() + PATIENCE_S
            while not self.rows("SELECT 1 FROM workers WHERE pid = %s", server.pid):
                assert time.monotonic() < until, f"the {queue} worker does not announce itself"
                time.sleep(0.05)
            yield server

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Ask the database itself."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            cursor = connection.execute(statement, values)
            return cursor.fetchall() if cursor.description else []


@contextmanager
def stores(settings: Mapping[str, str] | None = None) -> Iterator[Stores]:
    """Run migrated stores on the disk of the working directory; they are gone afterwards.

    Args:
        settings: Of PostgreSQL, besides those that it has otherwise.
    """
    with (
        TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as temporary,
        postgres.server(Path(temporary), settings or {}) as database,
        redis.server(Path(temporary)) as broker,
    ):
        migrations.upgrade(Database(url=database.url))
        variables = {
            "DATABASE_URL": database.url,
            "BROKER_URL": broker.url,
            "STORAGE_URL": (Path(temporary) / "blobs").as_uri(),
            "WORKER_DIRECTORY": str(Path(temporary) / "workers"),
            "AUTH_REQUIRED": "false",
            "LOGGING_LEVEL": "warning",
        }
        yield Stores(database.url, Path(temporary), {**os.environ, **variables})


def client(gateway: Server) -> httpx.Client:
    """Return a client of a gateway."""
    return httpx.Client(base_url=gateway.url, timeout=PATIENCE_S, trust_env=False)


def upload(http: httpx.Client, model: bytes) -> str:
    """Upload a model, wait until it is ready, and return its id."""
    binary = {"Content-Type": "application/octet-stream"}
    made = http.post("/v1/models", content=model, headers=binary).raise_for_status().json()
    until = time.monotonic() + PATIENCE_S
    while (found := http.get(f"/v1/models/{made['id']}").json())["status"] != "ready":
        assert found["status"] == "inspecting", found
        assert time.monotonic() < until, "the model is not inspected"
        time.sleep(0.05)
    return str(made["id"])


def send_file(url: str, file: Path) -> None:
    """Upload a file as a model, with next to no work on this side."""
    parts = urlsplit(url)
    head = (
        f"POST /v1/models HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n"
        "Content-Type: application/octet-stream\r\n"
        f"Content-Length: {file.stat().st_size}\r\n\r\n"
    )
    with file.open("rb") as body, socket.create_connection(("127.0.0.1", parts.port)) as sender:
        sender.sendall(head.encode())
        sender.sendfile(body)
        answer = sender.makefile("rb").readline()
    assert b" 201 " in answer, answer


def submit(http: httpx.Client, model: str, *ignore: str) -> str:
    """Submit a job of one step, and return its id.

    Args:
        http: a client of the gateway.
        model: the model's id.
        ignore: words for the engine of the tests; see `tests.e2e.engine`.
    """
    step = {"method": "quantize", "mode": "float16", "ignore": list(ignore)}
    answer = http.post("/v1/jobs", json={"model": model, "steps": [step]})
    return str(answer.raise_for_status().json()["id"])


def finish(http: httpx.Client, job: str) -> Json:
    """Wait until a job has succeeded, and return it."""
    until = time.monotonic() + PATIENCE_S
    while (found := http.get(f"/v1/jobs/{job}").json())["finished_at"] is None:
        assert time.monotonic() < until, "the job does not finish"
        time.sleep(0.01)
    assert found["status"] == "succeeded", found
    return dict(found)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def answers(url: str) -> bool:
    """Whether a GET is answered well."""
    try:
        return httpx.get(url, timeout=2, trust_env=False).is_success
    except httpx.TransportError:
        return False
