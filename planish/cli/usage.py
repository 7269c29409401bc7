"""``planish usage``: what was used, day by day."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import typer

from planish.cli.asking import AsJson, Columns, Url, asking, print_list
from planish.types import UsageDay

_COLUMNS: Columns[UsageDay] = {
    "day": lambda used: used.day,
    "jobs": lambda used: used.jobs,
    "CPU seconds": lambda used: used.cpu_seconds,
    "GPU seconds": lambda used: used.gpu_seconds,
    "bytes stored": lambda used: used.stored_bytes,
}

Day = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="A day, in UTC.")]


def usage(first: Day = None, last: Day = None, url: Url = None, as_json: AsJson = False) -> None:
    """Show what was used, day by day; days without anything are in --json alone."""
    with asking(url) as client:
        days = client.usage(first and first.date(), last and last.date())
    print_days(days, as_json=as_json)


def print_days(days: Sequence[UsageDay], *, as_json: bool) -> None:
    """Print what was used; for people, the days on which something was."""
    if not as_json:
        days = [
            day for day in days if any(of(day) for name, of in _COLUMNS.items() if name != "day")
        ]
    print_list(days, _COLUMNS, limit=len(days), as_json=as_json)
