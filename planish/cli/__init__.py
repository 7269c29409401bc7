"""The command ``planish``: a file a command group; what is heavy is imported when it is used."""

import sys

import typer
from rich.text import Text

from planish.cli.consoles import console
from planish.cli.deployment import Stop
from planish.errors import JobFailed, PlanishError, Unauthenticated

from . import (
    advise,
    agent,
    compare,
    compress,
    datasets,
    demo,
    devices,
    doctor,
    jobs,
    keys,
    login,
    migrate,
    models,
    serve,
    tenants,
    tools,
    usage,
    webhooks,
    worker,
)

FAILED, CANCELLED, NO_KEY = 1, 2, 4
"""Exit codes; also a command line that cannot be read is a failure."""

cli = typer.Typer(
    help="Neural-network compression as a service: any model, any method, one honest report.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
cli.command()(compress.compress)
cli.command()(compare.compare)
cli.command()(advise.advise)
cli.add_typer(models.cli, name="models")
cli.add_typer(datasets.cli, name="datasets")
cli.add_typer(jobs.cli, name="jobs")
cli.add_typer(devices.cli, name="devices")
cli.add_typer(webhooks.cli, name="webhooks")
cli.command()(usage.usage)
cli.command()(login.login)
cli.command()(serve.serve)
cli.command()(worker.worker)
cli.command()(agent.agent)
cli.command()(demo.demo)
cli.command()(migrate.migrate)
cli.command()(doctor.doctor)
cli.add_typer(keys.cli, name="keys")
cli.add_typer(tenants.cli, name="tenants")
cli.add_typer(tools.cli, name="tools")


def main() -> None:
    """Run one command; what a person can put right is one sentence, not a traceback."""
    try:
        cli()
    except (Stop, PlanishError) as stop:
        console(stderr=True).print(Text.assemble(("planish:", "bold red"), f" {stop}"))
        sys.exit(_code(stop))
    except SystemExit as end:
        unread = end.code == typer.BadParameter.exit_code
        sys.exit(FAILED if unread else end.code)


def _code(stop: Exception) -> int:
    if isinstance(stop, Unauthenticated):
        return NO_KEY
    if isinstance(stop, JobFailed) and stop.job.status == "cancelled":
        return CANCELLED
    return FAILED
