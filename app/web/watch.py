"""Tells event streams that their job has something new: one query for all streams of a process."""

import asyncio
import contextlib
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import structlog
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.exc import SQLAlchemyError

from app.services import events
from app.store.session import AWAY, Sessions

_LOOK_S = 0.2
_PAUSE_S = 2.0
"""After the database did not answer."""

Read = TypeVar("Read")

log = structlog.get_logger(__name__)


class Watch:
    """The last event of every job that somebody in this process listens to."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._listeners: Counter[str] = Counter()
        self._last: dict[str, float] = {}
        self._changed = asyncio.Condition()
        self._somebody = asyncio.Event()

    @contextlib.asynccontextmanager
    async def listening(self, job_id: str) -> AsyncIterator[None]:
        """Count a listener of the job while the block runs: ``run`` looks at jobs that have one."""
        self._listeners[job_id] += 1
        self._somebody.set()
        try:
            yield
        finally:
            self._listeners[job_id] -= 1
            if self._listeners[job_id] == 0:
                del self._listeners[job_id]
                self._last.pop(job_id, None)
            if not self._listeners:
                self._somebody.clear()

    async def wait(self, job_id: str, number: int) -> None:
        """Return when the job has an event after ``number``, or is gone."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._last.get(job_id, 0) > number)

    async def read(self, reading: Callable[[], Read]) -> Read:
        """Return what a function reads from the store; ask again for as long as that is away."""
        while True:
            try:
                return await run_in_threadpool(reading)
            except AWAY as error:
                log.warning("an event stream waits for the database", error=str(error))
                await asyncio.sleep(_PAUSE_S)

    async def run(self) -> None:
        """Look until cancelled; idle while nobody listens."""
        while True:
            await self._somebody.wait()
            try:
                found = await run_in_threadpool(self._look, list(self._listeners))
            except SQLAlchemyError as error:
                log.warning("event streams wait for the database", error=str(error))
                await asyncio.sleep(_PAUSE_S)
                continue
            async with self._changed:
                self._last.update({k: v for k, v in found.items() if k in self._listeners})
                self._changed.notify_all()
            await asyncio.sleep(_LOOK_S)

    def _look(self, job_ids: list[str]) -> dict[str, float]:
        with self._sessions() as session:
            found = events.last(session, job_ids)
        return {job_id: found.get(job_id, math.inf) for job_id in job_ids}
