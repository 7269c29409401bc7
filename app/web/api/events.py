"""``/v1/jobs/{id}/events``: what happens in a job, as it happens (server-sent events)."""

import json
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header
from fastapi.concurrency import run_in_threadpool
from sse_starlette import EventSourceResponse, ServerSentEvent

from app.domain.jobs import FINISHED
from app.domain.problems import NotFound
from app.services import jobs
from app.store import events
from app.store.tables import EventRow
from app.web.gateway import Call
from app.web.problems import documented
from app.web.security import Caller

router = APIRouter(prefix="/jobs", tags=["jobs"])

_PING_S = 15
_PAGE = 500

LastEventId = Annotated[str | None, Header(description="Go on after this event.", max_length=20)]


@router.get(
    "/{job_id}/events",
    response_class=EventSourceResponse,
    responses=documented(NotFound),
)
async def watch_job(
    job_id: str, call: Caller, last_event_id: LastEventId = None
) -> EventSourceResponse:
    """Stream `state`, `progress`, `metric` and `log` events until the job has ended.

    Without `Last-Event-ID`, or with an unknown one, from the start.
    """

    def begin() -> int:
        with call.transaction() as session:
            last = jobs.find(session, call.tenant, job_id).last_event
        after = int(last_event_id) if last_event_id and last_event_id.isdecimal() else 0
        return after if after <= last else 0

    after = await run_in_threadpool(begin)
    return EventSourceResponse(_stream(call, job_id, after), ping=_PING_S)


async def _stream(call: Call, job_id: str, after: int) -> AsyncIterator[ServerSentEvent]:
    watch = call.gateway.watch
    async with watch.listening(job_id):
        while True:
            rows = await run_in_threadpool(_read, call, job_id, after)
            for row in rows:
                after = row.number
                yield _event(row)
            if await run_in_threadpool(_is_over, call, job_id, after):
                return
            await watch.wait(job_id, after)


def _read(call: Call, job_id: str, after: int) -> list[EventRow]:
    with call.transaction() as session:
        return list(events.after(session, job_id, after, _PAGE))


def _is_over(call: Call, job_id: str, after: int) -> bool:
    """Whether nothing will follow: the job has ended and all was read, or it was deleted."""
    with call.transaction() as session:
        try:
            job = jobs.find(session, call.tenant, job_id)
        except NotFound:
            return True
        return job.status in FINISHED and job.last_event <= after


def _event(row: EventRow) -> ServerSentEvent:
    data = {**row.data, "at": row.at.isoformat().replace("+00:00", "Z")}
    return ServerSentEvent(json.dumps(data), event=row.kind, id=str(row.number))
