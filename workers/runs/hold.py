"""Hold a lease while work goes on, and learn at once when the work has to stop."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from types import TracebackType
from typing import Self, TypeVar

import structlog
from sqlalchemy.exc import IntegrityError

from app.domain.problems import RunningLimit, Unavailable
from app.store.leases import LeaseLost
from app.store.session import AWAY

Answer = TypeVar("Answer")

LAST_WRITE_SECONDS = 60.0
GIVE_BACK_SECONDS = 5.0
"""A process that stops has little time; without the write the lease runs out."""
STUMBLE_SECONDS = 5.0
"""How long a row waits after a fault of ours."""

_TICK_SECONDS = 0.05
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 2.0

PASSING = (*AWAY, Unavailable, IntegrityError)
"""Faults that pass: a store is away, or a blob was collected before it was referred to."""

log = structlog.get_logger(__name__)


class Cancelled(Exception):  # noqa: N818 (it says what happened)
    """The caller wants no more of it."""


class Stopping(Exception):  # noqa: N818 (it says what happened)
    """This worker process ends: give the work back."""


class Hold:
    """Renews a lease in a thread of its own, through outages of the database.

    Args:
        renew: prolongs the lease; returns whether to cancel, raises LeaseLost.
        every: seconds between renewals.
        stopping: set when the process ends.
        seconds: how long the work may take.
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

    def __enter__(self) -> Self:
        threading.Thread(target=self._keep, name="renewal", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()

    @property
    def seconds_left(self) -> float:
        """How long the work may still take."""
        return self._deadline - time.monotonic()

    def check(self) -> None:
        """Return if the work may go on.

        Raises:
            LeaseLost: somebody else has the row.
            Cancelled: the caller asked for it.
            Stopping: this process ends.
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
        """Return what ``action`` returns; repeat it while a store is away.

        The action runs in a thread that is left to itself when the work has to stop, so it may
        take its time, and it must be harmless when repeated.

        Raises:
            LeaseLost, Cancelled, Stopping, RunningLimit: as ``check``.
        """
        pause = _FIRST_PAUSE_SECONDS
        while True:
            future = _start(action)
            while not wait([future], _TICK_SECONDS).done:
                self.check()
            try:
                return future.result()
            except PASSING as error:
                log.warning("a store is away", error=str(error).partition("\n")[0])
            self._pause(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.check()
            time.sleep(_TICK_SECONDS)

    def _keep(self) -> None:
        while not self._done.wait(self._every):
            try:
                if self._renew():
                    self._cancelled.set()
            except LeaseLost:
                self._lost.set()
                return
            except AWAY as error:
                log.warning("lease not renewed", error=str(error).partition("\n")[0])


def insist(action: Callable[[], Answer], seconds: float) -> Answer | None:
    """Do a last write, again and again while the database is away, for some ``seconds``.

    Returns None when the row is somebody else's, or the time is up: then the lease runs out.
    """
    until = time.monotonic() + seconds
    while True:
        try:
            return action()
        except LeaseLost:
            return None
        except AWAY:
            if time.monotonic() > until:
                log.warning("last write given up: the lease will run out")
                return None
            time.sleep(_FIRST_PAUSE_SECONDS)


def _start(action: Callable[[], Answer]) -> Future[Answer]:
    future: Future[Answer] = Future()

    def work() -> None:
        try:
            future.set_result(action())
        except BaseException as error:  # noqa: BLE001 (it is raised where it is waited for)
            future.set_exception(error)

    threading.Thread(target=work, name="storing", daemon=True).start()
    return future
