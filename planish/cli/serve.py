"""``planish serve``: the gateway and, without configuration, everything that it needs."""

import contextlib
import errno
import ipaddress
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from planish.cli import processes
from planish.cli.consoles import console
from planish.cli.deployment import (
    DEFAULT_DATA,
    Data,
    Stop,
    is_fleet,
    require_fleet,
    settings_logged,
    stops_logged,
)

if TYPE_CHECKING:
    from app.local.server import Server
    from app.settings import Settings

_GRACE_S = 10.0
_QUIET = {"LOGGING_LEVEL": "warning", "LOGGING_FORMAT": "console"}
"""How a private service logs unless it is told otherwise: a person is reading."""


@dataclass(frozen=True)
class _Parts:
    """What the gateway and the workers are started with."""

    environment: dict[str, str]
    servers: "list[Server]"
    """Private ones that run already, in the order in which they were started."""
    where: str
    """In words, for the banner."""


def serve(
    data: Data = DEFAULT_DATA,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port to listen on; 0: any free one.")
    ] = None,
    with_worker: Annotated[
        bool, typer.Option("--with-worker", help="Also run this machine's workers, in a fleet.")
    ] = False,
) -> None:
    """Run the service until Ctrl-C.

    Without DATABASE_URL, BROKER_URL and STORAGE_URL it starts a private PostgreSQL and Valkey, the
    gateway and the workers, and keeps everything in one directory. With them it is the gateway of a
    fleet.
    """
    with stops_logged():
        _serve(data, host, port, with_worker=with_worker)


def _serve(data: Path, host: str | None, port: int | None, *, with_worker: bool) -> None:
    from app.local.server import AlreadyRunning, DidNotStart
    from app.local.supervisor import Supervisor

    if not is_fleet():
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
    settings = settings_logged()
    host = host or settings.server.host
    port = _free_port(host, settings.server.port if port is None else port)
    try:
        with _fleet(settings) if is_fleet() else _private(data, host, settings) as parts:
            supervisor = Supervisor(grace_s=_GRACE_S)
            for server in parts.servers:
                supervisor.include(server)
            if with_worker or not is_fleet():
                for worker in processes.workers(settings, parts.environment):
                    supervisor.include(worker)
            gateway = processes.gateway(host, port, parts.environment)
            supervisor.include(gateway)
            code = supervisor.run(lambda: _welcome(gateway.url, parts))
    except (AlreadyRunning, DidNotStart) as error:
        raise Stop(str(error)) from None
    raise typer.Exit(code)


@contextlib.contextmanager
def _fleet(settings: "Settings") -> Iterator[_Parts]:
    require_fleet()
    _require_tables(settings)
    yield _Parts(dict(os.environ), [], "with the configured database, broker and storage")


@contextlib.contextmanager
def _private(data: Path, host: str, settings: "Settings") -> Iterator[_Parts]:
    """Start the private servers in ``data``, held for us alone, and migrate."""
    import migrations
    from app.local import postgres, redis
    from app.local.server import hold
    from app.settings import Database

    data = data.resolve()
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    keyless = settings.auth.required is not True and _is_loopback(host)
    with hold(data / "lock"), postgres.server(data) as database, redis.server(data) as broker:
        migrations.upgrade(Database(url=database.url))
        urls = {
            "DATABASE_URL": database.url,
            "BROKER_URL": broker.url,
            "STORAGE_URL": (data / "blobs").as_uri(),
            "AUTH_REQUIRED": str(not keyless).lower(),
        }
        keys = "no key needed" if keyless else f"keys: planish keys create NAME --data {data}"
        environment = {**os.environ, **urls}
        yield _Parts(environment, [database, broker], f"data in {data}, {keys}")


def _require_tables(settings: "Settings") -> None:
    """Raise Stop where `planish migrate` has to come first; a database may be away for a while."""
    from app.domain.problems import Unavailable
    from app.store import schema
    from app.store.session import AWAY, connect, sessions

    engine = connect(settings.database)
    try:
        with sessions(engine)() as session:
            schema.require(session)
    except Unavailable as problem:
        raise Stop(problem.detail) from None
    except AWAY:
        pass
    finally:
        engine.dispose()


def _welcome(url: str, parts: _Parts) -> None:
    out = console()
    named, at = ("Planish", "bold green"), (url, "bold")
    out.print(Text.assemble(named, " is at ", at, f" ({parts.where})"))
    out.print(f"Open it in a browser; {url}/docs describes the API. Stop with Ctrl-C.")


def _is_loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _free_port(host: str, port: int) -> int:
    """Return a port that can be listened on: ``port`` itself, or any one where it is 0.

    Raises:
        Stop: nothing can listen there; the message says why.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise Stop(
                    f"something listens on {host}:{port} already. If it is this service, use it;"
                    " else choose another port, with --port or SERVER_PORT"
                ) from None
            raise Stop(
                f"cannot listen on {host}:{port} ({error.strerror}): see --host and --port"
            ) from None
        free: int = probe.getsockname()[1]
        return free
