"""One worker process: who it is, its stores, its engines, its slots."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sqlalchemy.orm import Session

from app.blobs import Blobs
from app.domain import ids
from app.domain.jobs import device_kind
from app.domain.workers import Capabilities, Confinement
from app.settings import Settings
from app.store import runs, workers
from app.store.session import Sessions, connect, sessions
from workers.machine import processors
from workers.sandbox import directories
from workers.sandbox.server import ENTRY, REQUIRED, Sandbox

Queue = Literal["jobs", "light"]


class Slots:
    """How many tasks may run at one time, whoever asks for them."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.free = total
        """How many more tasks may run now."""
        self._lock = threading.Lock()

    @contextmanager
    def one(self) -> Iterator[bool]:
        """Take a slot for a while, if one is free; say whether."""
        with self._lock:
            taken = self.free > 0
            self.free -= taken
        try:
            yield taken
        finally:
            with self._lock:
                self.free += taken


class Sandboxes:
    """Warm sandboxes: as many as runs go on at one time, used again and again."""

    def __init__(self, settings: Settings, device: str) -> None:
        self._device = device
        self._threads = threads(settings)
        confined = settings.engine.require_confinement
        self._require = REQUIRED if confined else frozenset[str]()
        self._free: list[Sandbox] = []

    @contextmanager
    def one(self) -> Iterator[Sandbox]:
        """Lend a sandbox to this thread."""
        try:
            lent = self._free.pop()
        except IndexError:
            lent = Sandbox(device=self._device, threads=self._threads, require=self._require)
        try:
            yield lent
        finally:
            self._free.append(lent)

    def close(self) -> None:
        """End all fork servers, and so all runs."""
        while self._free:
            self._free.pop().close()


class Ability:
    """Whether this process can do what it is for, and when it last did."""

    def __init__(self) -> None:
        self.lacking: str | None = "it has not tried a run yet"
        """Why no run comes to its end here; None where one did."""
        self.confinement: Confinement | None = None
        self.capabilities: Capabilities | None = None
        """Both as they were last announced."""
        self.claimed_at: float | None = None
        """When a row was last claimed, by ``time.monotonic``."""


@dataclass(frozen=True)
class Worker:
    """What every task of a worker process needs."""

    id: str
    """Fresh for each process: a restart under the same host name and pid is somebody else."""
    queue: Queue
    device: str
    settings: Settings
    sessions: Sessions
    blobs: Blobs
    sandboxes: Sandboxes
    slots: Slots
    directory: Path
    entry: str = ENTRY
    """The engine, as "module:function"."""
    ability: Ability = field(default_factory=Ability)
    stopping: threading.Event = field(default_factory=threading.Event)
    """Set when the process is to end: runs are given back."""
    work_due: threading.Event = field(default_factory=threading.Event)
    """Set when there may be work that no holder of a slot has looked for yet."""
    delivery_due: threading.Event = field(default_factory=threading.Event)
    """Set when a webhook is to be called now."""

    @property
    def offer(self) -> runs.Offer:
        """What it has for jobs that require it."""
        return runs.Offer(device_kind(self.device), tuple(self.settings.worker.labels))

    def note_claim(self, session: Session) -> None:
        """Say here and in the store that this process has claimed a row."""
        self.ability.claimed_at = time.monotonic()
        workers.claimed(session, self.id)


@contextmanager
def opened(
    settings: Settings, queue: Queue, device: str, *, entry: str = ENTRY
) -> Iterator[Worker]:
    """Open everything that a worker process needs, and close it at the end."""
    with ExitStack() as closing:
        engine = connect(settings.database)
        closing.callback(engine.dispose)
        parent = directories.base(settings.worker.directory)
        directory = closing.enter_context(directories.process_directory(parent))
        sandboxes = Sandboxes(settings, device)
        closing.callback(sandboxes.close)
        yield Worker(
            id=ids.new("wrk"),
            queue=queue,
            device=device,
            settings=settings,
            sessions=sessions(engine),
            blobs=Blobs.open(settings.storage.url),
            sandboxes=sandboxes,
            slots=Slots(1 if queue == "jobs" else settings.worker.light_slots),
            directory=directory,
            entry=entry,
        )


def threads(settings: Settings) -> int:
    """Return how many threads a run computes with: the processors at hand, shared by the slots."""
    slots = len(settings.worker.devices or ["cpu"])
    return settings.engine.threads or max(1, processors() // slots)
