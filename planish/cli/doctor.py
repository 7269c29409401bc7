"""``planish doctor``: what is found here, whether it works, and what to do where it does not."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.table import Table
from rich.text import Text

from planish.cli import checkup
from planish.cli.checkup import Check
from planish.cli.consoles import console
from planish.cli.deployment import DEFAULT_DATA, PARTS, Data, Stop, is_fleet, load_settings

if TYPE_CHECKING:
    from app.settings import Settings

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(data: Data = DEFAULT_DATA) -> None:
    """Say what is found: database, broker, storage, devices, confinement, engine, formats, disk.

    Exits with 1 if something must be put right before the service can work.
    """
    table = Table("", "", "found", "what to do", title="planish doctor", title_justify="left")
    failed = False
    for check in _checks(data, load_settings()):
        status = Text(check.status, _COLOURS[check.status])
        table.add_row(status, check.name, check.found, check.advice)
        failed |= check.status == "fail"
    console().print(table)
    if failed:
        raise typer.Exit(1)


def _checks(data: Path, settings: "Settings") -> Iterator[Check]:
    with ExitStack() as running:
        if is_fleet():
            urls = (settings.database.url, settings.broker.url, settings.storage.url)
            for part, url in zip(PARTS, urls, strict=True):
                if not url:
                    yield Check(part, "fail", "not set", "a fleet needs all of " + ", ".join(PARTS))
        else:
            try:
                urls = _private(data, running)
            except Stop as stop:
                urls = ("", "", "")
                yield Check("private servers", "fail", str(stop), "")
        database, broker, storage = urls
        if database:
            store = settings.database.model_copy(update={"url": database, "pool": 1})
            yield checkup.database(store)
            yield checkup.workers(store)
        if broker:
            yield checkup.broker(broker)
        if storage:
            yield checkup.storage(storage)
    yield checkup.variables()
    yield checkup.devices(settings)
    yield checkup.memory(settings)
    yield checkup.confinement(settings)
    yield checkup.engine(settings)
    yield from checkup.formats()
    yield checkup.disk(settings.worker.directory)


def _private(data: Path, running: ExitStack) -> tuple[str, str, str]:
    """Return the private servers' URLs; those that nobody runs are started meanwhile.

    Where there is no data yet, a throw-away service shows that one could be started.
    """
    import tempfile

    from app.local import postgres, redis
    from app.local.server import AlreadyRunning, DidNotStart

    if not data.exists():
        data = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="planish-doctor-")))
        data.chmod(0o700)
    servers = [postgres.server(data), redis.server(data)]
    for server in servers:
        try:
            running.enter_context(server)
        except AlreadyRunning:
            continue
        except DidNotStart as error:
            raise Stop(str(error)) from None
    return servers[0].url, servers[1].url, (data.resolve() / "blobs").as_uri()
