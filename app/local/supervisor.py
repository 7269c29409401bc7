"""Keeps a handful of programs running on one machine, and leaves nothing behind.

A program that dies is started again, after a pause that doubles while it keeps dying. One that dies
as soon as it is first started (a port that is taken, a wrong setting) ends everything: starting it
again would only repeat its message.
"""

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from app.local.server import AlreadyRunning, DidNotStart, Server

_log = logging.getLogger(__name__)

_LOOK_S = 0.1
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 30.0
_SETTLED_S = 3.0
"""A program that has lived this long was started well."""
_HEALTHY_S = 60.0
"""A program that has lived this long is forgiven its earlier deaths."""


@dataclass
class _Member:
    server: Server
    started: float = 0.0
    deaths: int = 0
    settled: bool = False
    retry_at: float = 0.0


class Supervisor:
    """Runs its programs until SIGTERM or SIGINT, then stops them in reverse order.

    Args:
        grace_s: how long the programs together may take to stop; a second signal ends the wait.
    """

    def __init__(self, *, grace_s: float = 30.0) -> None:
        self._grace_s = grace_s
        self._members: list[_Member] = []
        self._stopping = threading.Event()
        self._hurry = threading.Event()

    def add(self, name: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        """Add a program of ours; it writes to our own output. ``env`` is its whole environment."""
        self.include(Server(name=name, argv=argv, env=env))

    def include(self, server: Server) -> None:
        """Add a server that may be running already, such as the private PostgreSQL.

        One that answers has started well: it is always started again.
        """
        self._members.append(_Member(server, settled=server.directory is not None))

    def run(self, started: Callable[[], None] = lambda: None) -> int:
        """Run everything until a signal comes; return the exit status for our own process.

        Args:
            started: called once, when every program answers.
        """
        with self._signals():
            try:
                for member in self._members:
                    self._start(member)
                started()
                return self._watch()
            finally:
                self._stop_all()

    def _watch(self) -> int:
        while not self._stopping.wait(_LOOK_S):
            for member in self._members:
                if member.server.pid is None and not member.settled:
                    code = member.server.exit_code or 1
                    _log.error("%s ended with %d when started", member.server.name, code)
                    return code
                self._look_after(member)
        return 0

    def _look_after(self, member: _Member) -> None:
        now = time.monotonic()
        if member.server.pid is not None:
            if not member.settled and now - member.started > _SETTLED_S:
                member.settled = True
                _log.info("%s has settled", member.server.name)
            if now - member.started > _HEALTHY_S:
                member.deaths = 0
        elif member.retry_at == 0.0:
            member.retry_at = now + min(_FIRST_PAUSE_S * 2**member.deaths, _LONGEST_PAUSE_S)
            member.deaths += 1
            _log.warning("%s ended with %s", member.server.name, member.server.exit_code)
        elif now >= member.retry_at:
            try:
                self._start(member)
            except (DidNotStart, AlreadyRunning):
                _log.exception("%s does not start again", member.server.name)

    def _start(self, member: _Member) -> None:
        member.retry_at = 0.0
        member.started = time.monotonic()
        member.server.start()

    def _stop_all(self) -> None:
        """Ask our programs to stop together; the servers they use are stopped after them."""
        deadline = time.monotonic() + self._grace_s
        programs = [member.server for member in self._members if member.server.directory is None]
        for program in programs:
            program.ask_to_stop()
        while any(program.pid for program in programs) and time.monotonic() < deadline:
            if self._hurry.wait(_LOOK_S / 2):
                break
        for program in programs:
            program.stop(grace_s=0.0)
        for member in reversed(self._members):
            member.server.stop()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def received(_number: int, _frame: object) -> None:
            event = self._hurry if self._stopping.is_set() else self._stopping
            # We may be interrupted just where we hold the event's lock, so another thread waits.
            threading.Thread(target=event.set).start()

        before = {number: signal.signal(number, received) for number in _ENDING}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


_ENDING = (signal.SIGTERM, signal.SIGINT)
