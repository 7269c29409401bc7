"""Renews a lease while work goes on, and notices at once when the work has to stop."""

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextvars import copy_context
from types import TracebackType
from typing import Self, TypeVar

import structlog
from sqlalchemy.exc import IntegrityError

from app.domain.problems import RunningLimit, Unavailable
from app.store.leases import LeaseLost
from app.store.session import AWAY, first_line

Answer = TypeVar("Answer")

LAST_WRITE_SECONDS = 60.0
GIVE_BACK_SECONDS = 5.0
"""A stopping process has little time; without the write the lease expires."""
FAULT_PAUSE_SECONDS = 5.0
"""The time that a row waits after an internal error."""

_TICK_SECONDS = 0.05
_RENEWAL_SECONDS = 1.0
"""The time that a renewal which goes on has when the work is over; longer, it is abandoned."""
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 2.0

TEMPORARY = (*AWAY, Unavailable, IntegrityError)
"""Temporary errors: a store is down, or a blob was deleted before it was referenced."""

_BEYOND_LIMITS = "54"
"""PostgreSQL's class of errors about what is too large for it. SQLAlchemy raises OperationalError
for them, as it does when the database is away."""

log = structlog.get_logger(__name__)


class Cancelled(Exception):  # noqa: N818 (it says what happened)
    """The caller has cancelled the job."""


class Stopping(Exception):  # noqa: N818 (it says what happened)
    """This worker process is stopping: the work is given back."""


class Hold:
    """Renews a lease in a thread of its own, through outages of the database.

    Args:
        renew: renews the lease; returns whether the job is to be cancelled, raises LeaseLost.
        every: seconds between renewals.
        stopping: set when the process is to stop.
        seconds: the time limit of the work.
    """

    def __init__(
        self,
        renew: Callable[[], bool],
        *,
        every: float,
        stopping: threading.Event,
        seconds: float,
    ) -> None:
        self._renew = renew
        self._every = every
        self._stopping = stopping
        self._deadline = time.monotonic() + seconds
        self._lost = threading.Event()
        self._cancelled = threading.Event()
        self._done = threading.Event()
        self._renewal = threading.Thread(target=self._renew_until_done, name="renewal", daemon=True)

    def __enter__(self) -> Self:
        self._renewal.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._renewal.join(_RENEWAL_SECONDS)

    @property
    def seconds_left(self) -> float:
        """The remaining seconds for the work."""
        return self._deadline - time.monotonic()

    def lift_deadline(self) -> None:
        """Let the work take as long as it needs from now on: the engine has answered, or is dead.

        The worker does what is left, and a store that is slow or away is no fault of the run.
        """
        self._deadline = math.inf

    def check(self) -> None:
        """Return if the work may go on.

        Raises:
            LeaseLost: another worker holds the row.
            Cancelled: the caller has cancelled the job.
            Stopping: this process is stopping.
            RunningLimit: the time is up.
        """
        if self._lost.is_set():
            raise LeaseLost
        if self._cancelled.is_set():
            raise Cancelled
        if self._stopping.is_set():
            raise Stopping
        if self.seconds_left <= 0:
            raise RunningLimit("The time that the run may take is up.")

    def do(self, action: Callable[[], Answer]) -> Answer:
        """Return the result of ``action``; repeat the action while a store is unavailable.

        The action runs in a thread of its own, which is abandoned when the work has to stop. So
        the action may block, and repeating it must be harmless.

        Raises:
            LeaseLost, Cancelled, Stopping, RunningLimit: as ``check``.
            OperationalError: what was written exceeds a limit of PostgreSQL.
        """
        pause = _FIRST_PAUSE_SECONDS
        while True:
            future = _start(action)
            while not wait([future], _TICK_SECONDS).done:
                self.check()
            try:
                return future.result()
            except TEMPORARY as error:
                if _is_refused(error):
                    raise
                log.warning("a store is away", error=first_line(error))
            self._pause(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.check()
            time.sleep(_TICK_SECONDS)

    def _renew_until_done(self) -> None:
        while not self._done.wait(self._every):
            try:
                if self._renew():
                    self._cancelled.set()
            except LeaseLost:
                self._lost.set()
                return
            except AWAY as error:
                log.warning("lease not renewed", error=first_line(error))


def retry(action: Callable[[], Answer], seconds: float) -> Answer | None:
    """Write what ends or begins a run; repeat it for ``seconds`` while the database is away.

    Returns None if another worker holds the row, or if the time is up; then the lease expires.
    """
    until = time.monotonic() + seconds
    while True:
        try:
            return action()
        except LeaseLost:
            return None
        except AWAY:
            if time.monotonic() > until:
                log.warning("write given up: the lease will run out")
                return None
            time.sleep(_FIRST_PAUSE_SECONDS)


def _is_refused(error: Exception) -> bool:
    """Return whether the database is there, and will never take what was written."""
    state = getattr(getattr(error, "orig", None), "sqlstate", None) or ""
    return state.startswith(_BEYOND_LIMITS)


def _start(action: Callable[[], Answer]) -> Future[Answer]:
    future: Future[Answer] = Future()
    here = copy_context()  # what the action logs and traces belongs to the run

    def work() -> None:
        try:
            future.set_result(here.run(action))
        except BaseException as error:  # noqa: BLE001 (it is raised where it is waited for)
            future.set_exception(error)

    threading.Thread(target=work, name="storing", daemon=True).start()
    return future
