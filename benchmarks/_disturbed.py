"""A whole service of real processes that faults may happen to, with a network before each store."""

import random
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal
from urllib.parse import urlsplit

import pytest
from sqlalchemy.engine import make_url

from app.local import postgres, redis
from benchmarks._faults import Target
from benchmarks._network import Network, to_tcp, to_unix
from tests import s3, secrecy
from tests.disk import small_disk
from tests.e2e.service import Service

Storage = Literal["disk", "bucket"]
"""Local files on a small disk, which may be full; or a bucket, whose network may be at fault."""

DISK_MIB = 256


@contextmanager
def disturbed(chance: random.Random, storage: Storage) -> Iterator[Target]:
    """Run a service with two workers of each queue, and a network before each of its stores."""
    with TemporaryDirectory(prefix="planish-chaos-") as place, ExitStack() as closing:
        data = Path(place)
        disk: Path | None = None
        networks: dict[str, Network] = {}
        settings = {"AUTH_REQUIRED": "true", "LEASE_ATTEMPTS": "1000", "LEASE_LOSSES": "1000"}

        def network(name: str, connect: Callable[[], socket.socket]) -> int:
            networks[name] = closing.enter_context(Network(connect).running())
            return networks[name].port

        if storage == "bucket":
            bucket = urlsplit(closing.enter_context(s3.server()))
            port = network("bucket", to_tcp("127.0.0.1", bucket.port or 80))
            settings["STORAGE_URL"] = s3.url(f"http://127.0.0.1:{port}", "chaos")
        else:
            try:
                disk = closing.enter_context(small_disk(data / "storage", DISK_MIB))
            except pytest.skip.Exception as reason:
                print(f"the disk is not filled: {reason}")
        database = make_url(postgres.server(data).url)
        port = network("database", to_unix(f"{database.query['host']}/.s.PGSQL.5432"))
        through = database.set(host="127.0.0.1", port=port, query={}, password=secrecy.PASSWORD)
        settings["DATABASE_URL"] = through.render_as_string(hide_password=False)
        broker = redis.server(data).url.removeprefix("redis+socket://")
        settings["BROKER_URL"] = f"redis://127.0.0.1:{network('queue', to_unix(broker))}/0"
        service = Service(data, **settings)
        closing.callback(service.stop)
        service.start()
        more = {queue: service.worker(queue) for queue in ("jobs", "light")}
        for server in more.values():
            closing.enter_context(server)
            service.await_worker(server)
        workers = {"jobs": [service.jobs, more["jobs"]], "light": [service.light, more["light"]]}
        yield Target(service, workers, disk, networks, chance)
