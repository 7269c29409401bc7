"""``/v1/jobs/{id}/events``: what happens in a job, as server-sent events."""

import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Header
from fastapi.concurrency import run_in_threadpool
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.types import Message, Receive, Scope, Send

from app.domain.problems import NotFound, TooManyRequests
from app.services import events
from app.web.gateway import Call
from app.web.problems import documented
from app.web.security import Caller

router = APIRouter(prefix="/jobs", tags=["jobs"])

LastEventId = Annotated[
    str | None,
    Header(alias="Last-Event-ID", description="Go on after this event; else from the start."),
]

_PING_S = 15
_LONGEST_NUMBER = 18


@router.get(
    "/{job_id}/events",
    response_class=EventSourceResponse,
    responses={
        **documented(NotFound, TooManyRequests),
        200: {
            "description": "`state`, `progress`, `metric` and `log` events; a comment every 15 s.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
    },
)
async def watch_job(
    job_id: str, call: Caller, last_event_id: LastEventId = None
) -> EventSourceResponse:
    """Follow a job from its first event, or from `Last-Event-ID`, until it has ended."""
    return await stream(call, job_id, last_event_id)


async def stream(call: Call, job_id: str, last_event_id: str | None) -> EventSourceResponse:
    """Return a job's events as they come, after the one that the client names.

    Raises:
        NotFound: The job is not the tenant's.
    """
    seen = await run_in_threadpool(_seen, call, job_id, last_event_id or "")
    return _Stream(call, _events(call, job_id, seen))


class _Stream(EventSourceResponse):
    """A stream of events, which counts as its tenant's for as long as it is open."""

    def __init__(self, call: Call, events: AsyncIterator[ServerSentEvent]) -> None:
        super().__init__(events, ping=_PING_S, sep="\n")
        self._call = call

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream, and its end also where the gateway is stopped meanwhile.

        Raises:
            TooManyRequests: The tenant has as many open as it may; nothing was sent.
        """
        has_ended = False

        async def sending(message: Message) -> None:
            nonlocal has_ended
            has_ended = message["type"] == "http.response.body" and not message.get("more_body")
            await send(message)

        with self._call.gateway.streams.one(self._call.tenant):
            await super().__call__(scope, receive, sending)
            if not has_ended:
                await send({"type": "http.response.body", "body": b""})


def _seen(call: Call, job_id: str, last_event_id: str) -> int:
    """Return the number that the client has seen; 0 if it names none that exists."""
    is_number = last_event_id.isascii() and last_event_id.isdecimal()
    number = int(last_event_id[:_LONGEST_NUMBER]) if is_number else 0
    with call.transaction() as session:
        return events.seen(session, call.tenant, job_id, number)


async def _events(call: Call, job_id: str, seen: int) -> AsyncIterator[ServerSentEvent]:
    """Yield events as they are stored; hold no session while waiting for more."""
    watch = call.gateway.watch
    async with watch.listening(job_id):
        while True:
            found, ended = await watch.read(partial(_read, call, job_id, seen))
            for event in found:
                seen = event.number
                yield ServerSentEvent(json.dumps(event.data), event=event.kind, id=str(seen))
            if ended:
                return
            await watch.wait(job_id, seen)


def _read(call: Call, job_id: str, seen: int) -> tuple[list[events.Event], bool]:
    with call.transaction() as session:
        return events.following(session, call.tenant, job_id, seen)
