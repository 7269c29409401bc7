# Made by scripts/unasync.py of planish/_async: change that, and run it again.
"""The events of a job, resumed where the stream was cut."""

from collections.abc import Iterator

import httpx

from planish._answers import is_passing, pauses
from planish._sse import Parser
from planish._sync import io
from planish._sync.http import Transport
from planish.errors import Refused, Unreachable
from planish.types import Event

_SILENT = 2
"""Streams in a row that end without an event."""


def follow(http: Transport, path: str, *, after: int) -> Iterator[Event]:
    """Yield events until the server ends the stream after a terminal state.

    A stream that breaks off is opened again after the last event that arrived; the attempts are
    bounded in a row without one. One that ends twice in a row without an event has none to tell:
    the job had ended before. (Once, and it may have been a gateway that was shut down.)

    Raises:
        Unreachable: the stream breaks off too often.
        Refused: the service said no, in all attempts.
    """
    remaining = list(pauses(http.attempts))
    ended, silent = False, 0
    while not ended and silent < _SILENT:
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
        try:
            with http.stream(path, headers) as response:
                silent += 1
                parser = Parser()
                for line in response.iter_lines():
                    event = parser.take(line)
                    if event is not None:
                        after, ended, silent = event.number, event.ends_the_job, 0
                        remaining = list(pauses(http.attempts))
                        yield event
        except (httpx.TransportError, Refused) as error:
            if isinstance(error, Refused) and not (remaining and is_passing(error)):
                raise
            if not remaining:
                raise Unreachable(f"the stream of events broke off: {error}") from error
            ended, silent = False, 0
        if not ended and silent < _SILENT:
            io.sleep(remaining.pop(0) if remaining else 1.0)
