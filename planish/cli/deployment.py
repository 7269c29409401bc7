"""Which deployment a command acts on: a configured fleet, or the private one in a directory."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from app.settings import Database, Settings
    from app.store.session import Sessions

PARTS = ("DATABASE_URL", "BROKER_URL", "STORAGE_URL")
"""The variables that make a fleet; with none of them everything is private to one directory."""

Data = Annotated[
    Path,
    typer.Option(
        "--data",
        envvar="PLANISH_DATA",
        help="Where a service without configuration keeps everything.",
    ),
]
DEFAULT_DATA = Path("planish-data")
"""Below the working directory: in plain sight, and gone when it is removed."""


class Stop(Exception):  # noqa: N818 (it is not always an error)
    """The command cannot go on; the message says why, and what to do."""


def load_settings() -> "Settings":
    """Return the settings of the environment.

    Raises:
        Stop: a variable has a value that it cannot have.
    """
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from app.domain.fault_words import in_words
    from app.settings import Settings

    try:
        return Settings()
    except ValidationError as error:
        wrong = "; ".join(
            ": ".join(filter(None, (_place(found["loc"]), in_words(found))))
            for found in error.errors()
        )
        raise Stop(f"a setting is wrong ({wrong})") from None
    except SettingsError as error:  # it names a group, and not the setting
        _, group, *_ = str(error).split('"')
        raise Stop(f"a setting is wrong ({group.upper()}_…: one of these must be JSON)") from None


def settings_logged() -> "Settings":
    """Return the settings, with logs set up by them, which tell of variables that are none.

    Raises:
        Stop: as ``load_settings``.
    """
    import structlog

    from app import logs
    from app.misspelt import unknown

    settings = load_settings()
    logs.configure(settings.logging)
    if found := unknown(os.environ):
        log = structlog.get_logger(__name__)
        log.warning("variables that are no settings are ignored", variables=found)
    return settings


def _place(location: Sequence[int | str]) -> str:
    """Return where a wrong value is: its variable, and the place within its JSON."""
    variable, within = location[:2], location[2:]
    named = ["_".join(map(str, variable)).upper(), ".".join(map(str, within))]
    return " ".join(filter(None, named))


@contextlib.contextmanager
def stops_logged() -> Iterator[None]:
    """Log why a process of a fleet does not start, in JSON as all that such processes say."""
    try:
        yield
    except Stop as stop:
        if not is_fleet() or os.environ.get("LOGGING_FORMAT", "json") != "json":
            raise
        import structlog

        from app import logs
        from app.settings import Logging

        logs.configure(Logging())
        structlog.get_logger(__name__).critical("this does not start", reason=str(stop))
        raise typer.Exit(1) from None


def is_fleet() -> bool:
    """Return whether any part of a fleet is configured."""
    return any(os.environ.get(part) for part in PARTS)


def require_fleet() -> None:
    """Raise Stop, with what is missing, unless every part of a fleet is configured."""
    if absent := [part for part in PARTS if not os.environ.get(part)]:
        raise Stop(
            f"{', '.join(absent)} must be set (postgresql://…, redis://…, s3://… or file:///…);"
            " for one machine, `planish serve` without any of them starts everything"
        )


@contextlib.contextmanager
def reachable_database(data: Path) -> Iterator["Database"]:
    """Hand out the database: the configured one, or the private one, started if nobody runs it.

    Raises:
        Stop: it cannot be reached, or there is none in ``data``.
    """
    from app.local import postgres
    from app.local.server import AlreadyRunning, DidNotStart
    from app.settings import Database

    if is_fleet():
        database = load_settings().database
        if not database.url:
            raise Stop("DATABASE_URL must be set (postgresql://user:password@host/name)")
        yield database
        return
    if not (data / "postgres").exists():
        raise Stop(
            f"there is no service in {data}: start one with `planish serve`, name its directory"
            " with --data, or set DATABASE_URL"
        )
    server = postgres.server(data)
    with contextlib.ExitStack() as running:
        try:
            running.enter_context(server)
        except AlreadyRunning:
            pass
        except DidNotStart as error:
            raise Stop(str(error)) from None
        yield Database(url=server.url)


@contextlib.contextmanager
def reachable_store(data: Path) -> Iterator["Sessions"]:
    """Hand out sessions on the deployment's job store.

    Raises:
        Stop: the database cannot be reached, or has no tables of this version.
    """
    from sqlalchemy.exc import OperationalError, ProgrammingError

    from app.store.session import connect, sessions

    with reachable_database(data) as database:
        engine = connect(database)
        try:
            yield sessions(engine)
        except OperationalError as error:
            raise Stop(f"the database does not answer: {error.orig}") from None
        except ProgrammingError:
            raise Stop("the database has no tables of this version: run `planish migrate`") from (
                None
            )
        finally:
            engine.dispose()


def storage_url(data: Path) -> str:
    """Return where the deployment's bytes are."""
    return load_settings().storage.url if is_fleet() else (data.resolve() / "blobs").as_uri()
