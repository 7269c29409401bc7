"""All commands, and how they end: with an exit code, and a sentence in place of a traceback."""

import sys
from importlib.metadata import version
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.text import Text
from typer.rich_utils import rich_format_error

from planish.cli.consoles import console
from planish.cli.deployment import Stop
from planish.errors import JobFailed, PlanishError, Refused, Unauthenticated, Unreachable

from . import (
    advise,
    agent,
    compare,
    compress,
    datasets,
    demo,
    devices,
    doctor,
    ending,
    jobs,
    keys,
    login,
    migrate,
    models,
    refusals,
    serve,
    tenants,
    tools,
    usage,
    webhooks,
    worker,
)

FAILED, CANCELLED, NO_KEY = 1, 2, 4
"""Exit codes; also a command line that cannot be read is a failure."""

_UNREAD: Any = typer.BadParameter.__mro__[2]
"""What Typer raises for a command line that cannot be read, of any kind: it is named otherwise, and
lies elsewhere, in each version."""

cli = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _say_version(asked: bool) -> None:
    if asked:
        print(version("planish"))
        raise typer.Exit


@cli.callback()
def _options(
    context: typer.Context,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version."),
    ] = False,
    url: Annotated[
        str | None, typer.Option(help="Of the service, for all commands that ask one.")
    ] = None,
) -> None:
    """Neural-network compression as a service: any model, any method, one honest report."""
    context.obj = url


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


def run() -> None:
    """Run one command; what a person can put right is one sentence, not a traceback."""
    try:
        sys.exit(_run())
    except KeyboardInterrupt:  # before the command began, or after it was done
        sys.exit(_stopped())


def _run() -> int | None:
    """Return the exit code."""
    try:
        code: int | None = cli(standalone_mode=False)
    except _UNREAD as unread:
        _put_plainly(unread)
        rich_format_error(unread)
        return FAILED
    except typer.Abort:
        return FAILED
    except (Stop, PlanishError) as stop:
        words = _with_what_to_do(stop)
        _say(refusals.in_words(words) if isinstance(stop, Refused) else words)
        return _code(stop)
    except OSError as error:
        if error.filename is None:
            raise
        _say(f"{error.filename}: {error.strerror}.")
        return FAILED
    return _stopped() if code == ending.INTERRUPTED else code


def _stopped() -> int:
    _say("stopped.")
    return ending.exit_code()


def _say(words: str) -> None:
    console(stderr=True).print(Text.assemble(("planish:", "bold red"), f" {words}"))


def _put_plainly(unread: Exception) -> None:
    """Say in our words what a value must be, where Typer had pydantic read it."""
    if isinstance(unread, typer.BadParameter) and isinstance(unread.__cause__, ValidationError):
        from app.domain.fault_words import in_words

        faults = unread.__cause__.errors()
        unread.message = "; ".join(dict.fromkeys(map(in_words, faults)))


def _with_what_to_do(stop: Exception) -> str:
    said = str(stop)
    if isinstance(stop, Unreachable):
        said = f"{said.removesuffix('.')}. 'planish serve' starts a service on this machine;"
        return f"{said} '--url' names another one."
    return said


def _code(stop: Exception) -> int:
    if isinstance(stop, Unauthenticated):
        return NO_KEY
    if isinstance(stop, JobFailed) and stop.job.status == "cancelled":
        return CANCELLED
    return FAILED
