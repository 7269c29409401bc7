# Made by scripts/unasync.py of planish/_async: change that, and run it again.
"""The events of a job, resumed where the stream was cut."""

from collections.abc import Iterator

import httpx

from planish._answers import is_passing, words_of
from planish._sse import Parser
from planish._sync import io
from planish._sync.http import Transport
from planish.errors import Refused, Unreachable
from planish.types import Event

_SILENT = 2
"""Streams in a row that end without an event."""
_BEFORE_NEXT_S = 0.2
"""After a stream that has ended."""


def follow(http: Transport, path: str, *, after: int) -> Iterator[Event]:
    """Yield events until the server ends the stream after a terminal state.

    A stream that breaks off is opened again after the last event that arrived, also where the
    service is away for some minutes. One that ends twice in a row without an event has none to
    tell: the job had ended before. (Once, and it may have been a gateway that was shut down.)

    Raises:
        Unreachable: the service stayed away.
        Refused: the service said no, and kept to it.
    """
    between = http.waiting()
    ended, silent = False, 0
    while not ended and silent < _SILENT:
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
        pause = _BEFORE_NEXT_S
        try:
            with http.stream(path, headers) as response:
                silent += 1
                parser = Parser()
                for line in response.iter_lines():
                    between = http.waiting()  # it is there
                    event = parser.take(line)
                    if event is not None:
                        after, ended, silent = event.number, event.ends_the_job, 0
                        yield event
        except (httpx.TransportError, Refused) as error:
            retry = next(between, None)
            if isinstance(error, Refused) and (retry is None or not is_passing(error)):
                raise
            if retry is None:
                raise Unreachable(f"{http.url} does not answer: {words_of(error)}") from None
            pause, ended, silent = retry, False, 0
        if not ended and silent < _SILENT:
            io.sleep(pause)
