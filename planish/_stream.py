"""Server-sent events, resumed where they were cut."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import httpx

from planish._transport import is_passing, pauses
from planish.errors import Refused, Unreachable
from planish.types import Event

Open = Callable[[int], AbstractContextManager[httpx.Response]]
"""Opens the stream after the event with this number."""

_SILENT = 2
"""Streams in a row that end without an event."""


def follow(open_after: Open, *, after: int, attempts: int) -> Iterator[Event]:
    """Yield events until the server ends the stream after a terminal state.

    A stream that breaks off is opened again after the last event that arrived; ``attempts`` bounds
    how often in a row without one. One that ends twice in a row without an event has none to tell:
    the job had ended before. (Once, and it may have been a gateway that was shut down.)

    Raises:
        Unreachable: the stream breaks off too often.
    """
    remaining = list(pauses(attempts))
    ended, silent = False, 0
    while not ended and silent < _SILENT:
        try:
            with open_after(after) as response:
                silent += 1
                for event in parse(response.iter_lines()):
                    after, ended, silent = event.number, event.ends_the_job, 0
                    remaining = list(pauses(attempts))
                    yield event
        except (httpx.TransportError, Refused) as error:
            if isinstance(error, Refused) and not is_passing(error):
                raise
            if not remaining:
                raise Unreachable(f"the stream of events broke off: {error}") from error
            ended, silent = False, 0
        if not ended and silent < _SILENT:
            time.sleep(remaining.pop(0) if remaining else 1.0)


def parse(lines: Iterator[str]) -> Iterator[Event]:
    """Yield the events of a stream in the format of the HTML standard, section 9.2."""
    fields: dict[str, str] = {}
    for line in lines:
        if not line:
            if "data" in fields and "id" in fields:
                yield Event(
                    number=int(fields["id"]),
                    kind=fields.get("event", "message"),
                    data=json.loads(fields["data"]),
                )
            fields = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            fields[name] = f"{fields[name]}\n{value}" if name in fields else value
