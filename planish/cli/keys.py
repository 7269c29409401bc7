"""``planish keys``: who may call the service."""

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planish.cli.consoles import console
from planish.cli.deployment import DEFAULT_DATA, Data, Stop, reachable_store
from planish.cli.listing import print_rows

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.store.tables import ApiKeyRow

cli = typer.Typer(help="Make, list and revoke API keys.", no_args_is_help=True)


@cli.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose key it is, for people.")] = "default",
    tenant: Annotated[str, typer.Option(help="Who owns what this key uploads.")] = "default",
    scope: Annotated[
        list[str] | None, typer.Option(help="read or write; repeat it. Default: both.")
    ] = None,
    days: Annotated[
        float | None, typer.Option(min=0, help="Days until it expires. Default: never.")
    ] = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Make a key and print it, once: only its hash is kept."""
    from app.services import keys

    scopes = tuple(known for known in keys.SCOPES if scope is None or known in scope)
    if scope is not None and set(scope) - set(scopes):
        raise Stop(f"a scope is one of: {', '.join(keys.SCOPES)}")
    expires_at = datetime.now(UTC) + timedelta(days=days) if days is not None else None
    with _session(data) as session:
        row, key = keys.create(session, tenant, name, scopes, expires_at)
        console(stderr=True).print(
            f"{row.id} of tenant {row.tenant}: {', '.join(row.scopes)}. The key is shown once:"
        )
    print(key)


@cli.command("list")
def show(data: Data = DEFAULT_DATA) -> None:
    """List every key, newest first."""
    from app.store import keys

    with _session(data) as session:
        rows = [(_figures(row), _words(row)) for row in keys.every(session)]
    print_rows(["id", "made", "last used", "state"], rows)


@cli.command()
def revoke(
    key: Annotated[str, typer.Argument(help="The key's id: key_…")], data: Data = DEFAULT_DATA
) -> None:
    """Make a key worthless, at once."""
    from app.store import keys

    with _session(data) as session:
        if not keys.revoke(session, key):
            raise Stop(f"there is no key {key}: see `planish keys list`")
    print(f"{key} is revoked.")


@contextlib.contextmanager
def _session(data: Path) -> "Iterator[Session]":
    """Hand out a transaction on the deployment's database."""
    from app.store.session import transaction

    with reachable_store(data) as sessions, transaction(sessions) as session:
        yield session


def _figures(row: "ApiKeyRow") -> list[str]:
    used = f"{row.used_at:%Y-%m-%d}" if row.used_at else "never"
    return [row.id, f"{row.created_at:%Y-%m-%d}", used, _state(row)]


def _words(row: "ApiKeyRow") -> str:
    return f"{row.name}, of tenant {row.tenant}: {', '.join(row.scopes)}"


def _state(row: "ApiKeyRow") -> str:
    if row.revoked_at is not None:
        return "revoked"
    if row.expires_at is None:
        return "valid"
    expired = row.expires_at < datetime.now(UTC)
    return f"{'expired' if expired else 'valid until'} {row.expires_at:%Y-%m-%d %H:%M}"
