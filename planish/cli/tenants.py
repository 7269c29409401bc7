"""``planish tenants``: who uses the service, how much, and how to delete all that is somebody's."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from planish.cli.asking import AsJson
from planish.cli.deployment import (
    DEFAULT_DATA,
    Data,
    Stop,
    reachable_store,
    storage_url,
)
from planish.cli.listing import print_rows
from planish.cli.usage import Day, print_days
from planish.types import UsageDay

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

cli = typer.Typer(help="List tenants, show their usage, delete one.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The tenant, as `planish tenants list` has it.")]


@cli.command("list")
def show(data: Data = DEFAULT_DATA) -> None:
    """List every tenant with its keys, active jobs and stored bytes."""
    from app.store import tenants
    from app.store.session import transaction

    with reachable_store(data) as sessions, transaction(sessions) as session:
        found = tenants.listed(session)
    rows = [
        (each.name, each.keys, each.active_jobs, each.stored_bytes, each.last_day or "never")
        for each in found
    ]
    headings = ["tenant", "keys", "active jobs", "bytes stored", "last used"]
    print_rows(headings, [(row, "") for row in rows])


@cli.command()
def usage(
    tenant: Name,
    first: Day = None,
    last: Day = None,
    data: Data = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Show what a tenant used, day by day; the last 30 days by default.

    Days without anything are in --json alone.
    """
    from app.domain.problems import Invalid
    from app.services import usage as services
    from app.store.session import transaction

    until = last.date() if last else datetime.now(UTC).date()
    with reachable_store(data) as sessions, transaction(sessions) as session:
        _require(session, tenant)
        try:
            days = services.days(session, tenant, first and first.date(), until)
        except Invalid:
            raise Stop(
                f"--first has to be at most {services.MOST_DAYS - 1} days before --last, which is"
                " today without it, and not after it"
            ) from None
    print_days([UsageDay.model_validate(day.model_dump()) for day in days], as_json=as_json)


@cli.command()
def delete(
    tenant: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Delete a tenant's keys, models, data, jobs, results, webhooks and usage, for good."""
    from app.blobs import Blobs
    from app.domain.problems import Unavailable
    from app.services import tenants as services
    from app.store.session import transaction

    with reachable_store(data) as sessions:
        with transaction(sessions) as session:
            _require(session, tenant)
        if not yes and not typer.confirm(f"Delete all that {tenant} has? Nothing brings it back."):
            raise typer.Exit(1)
        blobs = Blobs.open(storage_url(data))
        try:
            done = services.delete(sessions, blobs, tenant)
        except Unavailable as fault:
            raise Stop(f"{fault.detail}; repeat the command, or wait for the collector") from None
    print(f"{tenant} is deleted: {done.rows} rows, {done.blobs} files.")
    if done.left:
        print(f"{done.left} more files may be about to be used by others, and are collected later.")


def _require(session: "Session", tenant: str) -> None:
    """Stop unless there is such a tenant."""
    from app.store import tenants

    if tenant not in {each.name for each in tenants.listed(session)}:
        raise Stop(f"there is no tenant {tenant}: see `planish tenants list`")
