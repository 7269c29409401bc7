"""``planish worker``: the workers of one machine of a fleet."""

import os
from typing import TYPE_CHECKING, Annotated

import typer

from planish.cli import processes
from planish.cli.deployment import (
    Stop,
    load_settings,
    require_fleet,
    settings_logged,
    stops_logged,
)

if TYPE_CHECKING:
    from app.settings import Settings


def worker(
    health: Annotated[
        bool, typer.Option("--health", help="Say how the workers that run here are, and exit.")
    ] = False,
) -> None:
    """Run this machine's workers until Ctrl-C: one for each device, and one for light work.

    SIGTERM gives running jobs back to the queue, at once, with their finished steps. With --health
    it starts nothing and exits with 1 unless workers run here, look for work and can do jobs.
    """
    if health:
        raise typer.Exit(_health(load_settings()))
    with stops_logged():
        _run()


def _health(settings: "Settings") -> int:
    """Print what the worker processes of this machine last said of themselves; 1 at any fault."""
    import time

    from workers import health
    from workers.sandbox import directories

    said = list(health.of_processes(directories.base(settings.worker.directory)))
    for each in said:
        claim = "nothing claimed yet"
        if each.claimed_at is not None:
            claim = f"last claim {time.monotonic() - each.claimed_at:.0f} s ago"
        print(f"{each.queue} on {each.device}: {each.fault() or 'well'}, {claim}")
    absent = {"jobs", "light"} - {each.queue for each in said}
    for queue in sorted(absent):
        print(f"{queue}: no process has looked for work yet")
    return int(bool(absent) or any(each.fault() for each in said))


def _run() -> None:
    from app.local.server import AlreadyRunning, DidNotStart
    from app.local.supervisor import Supervisor

    require_fleet()
    settings = settings_logged()
    supervisor = Supervisor()
    for process in processes.workers(settings, dict(os.environ)):
        supervisor.include(process)
    try:
        code = supervisor.run()
    except (AlreadyRunning, DidNotStart) as error:
        raise Stop(str(error)) from None
    raise typer.Exit(code)
