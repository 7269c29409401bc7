"""The command ``planish``: a file a command group; what is heavy is imported when it is used."""

import sys

import typer

from planish.cli.consoles import console
from planish.cli.deployment import Stop
from planish.errors import PlanishError

from . import demo, doctor, keys, migrate, serve, worker

cli = typer.Typer(
    help="Neural-network compression as a service: any model, any method, one honest report.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
cli.command()(serve.serve)
cli.command()(worker.worker)
cli.command()(demo.demo)
cli.command()(migrate.migrate)
cli.command()(doctor.doctor)
cli.add_typer(keys.cli, name="keys")


def main() -> None:
    """Run one command; what a person can put right is one sentence, not a traceback."""
    try:
        cli()
    except (Stop, PlanishError) as stop:
        console(stderr=True).print(f"[bold red]planish:[/] {stop}")
        sys.exit(1)
