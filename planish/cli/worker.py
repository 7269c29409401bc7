"""``planish worker``: the workers of one machine of a fleet."""

import os

import typer

from planish.cli import processes
from planish.cli.deployment import Stop, load_settings, require_fleet


def worker() -> None:
    """Run this machine's workers until Ctrl-C: one for each device, and one for light work.

    SIGTERM gives running jobs back to the queue, at once, with their finished steps.
    """
    from app import logs
    from app.local.server import AlreadyRunning, DidNotStart
    from app.local.supervisor import Supervisor

    require_fleet()
    settings = load_settings()
    logs.configure(settings.logging)
    supervisor = Supervisor()
    for process in processes.workers(settings, dict(os.environ)):
        supervisor.include(process)
    try:
        code = supervisor.run()
    except (AlreadyRunning, DidNotStart) as error:
        raise Stop(str(error)) from None
    raise typer.Exit(code)
