"""A worker process: its identity, its stores, its sandboxes and its slots."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Literal

from sqlalchemy.orm import Session

from app.blobs import Blobs
from app.domain.deployments import DEPLOYMENTS, lacking
from app.domain.request_parts import DeviceKind, device_kind
from app.domain.workers import Capabilities, Confinement
from app.settings import Settings
from app.store import claims, counters, workers
from app.store.session import Sessions, connect, sessions
from workers.figures import Figures
from workers.machine import processors
from workers.sandbox import directories
from workers.sandbox.server import ENTRY, REQUIRED, Sandbox

Queue = Literal["jobs", "light"]


class Slots:
    """Bounds the number of tasks that run at one time."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.free = total
        """How many more tasks may run now."""
        self._lock = threading.Lock()

    @contextmanager
    def take(self) -> Iterator[bool]:
        """Take a slot for the context, if one is free; yield whether one was."""
        with self._lock:
            is_free = self.free > 0
            self.free -= is_free
        try:
            yield is_free
        finally:
            with self._lock:
                self.free += is_free


class Sandboxes:
    """A pool of warm sandboxes, as many as there are runs at one time."""

    def __init__(self, settings: Settings, device: str) -> None:
        self._device = device
        self._threads = threads(settings)
        confined = settings.engine.require_confinement
        self._require = REQUIRED if confined else frozenset[str]()
        self._free: list[Sandbox] = []

    @contextmanager
    def lend(self) -> Iterator[Sandbox]:
        """Lend a sandbox to this thread for the context."""
        try:
            lent = self._free.pop()
        except IndexError:
            lent = Sandbox(device=self._device, threads=self._threads, require=self._require)
        try:
            yield lent
        finally:
            self._free.append(lent)

    def close(self) -> None:
        """Close all fork servers, and so end all runs."""
        while self._free:
            self._free.pop().close()


class Ability:
    """Whether this process can run jobs, and when it last claimed one."""

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
    """The resources that the tasks of a worker process share."""

    id: str
    """A new id for each process, also after a restart under the same host name and pid. The
    process's directory has the same name."""
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
    figures: Figures = field(default_factory=Figures)
    stopping: threading.Event = field(default_factory=threading.Event)
    """Set when the process is to stop; runs are then given back."""
    work_due: threading.Event = field(default_factory=threading.Event)
    """Set when there may be work that no holder of a slot has looked for yet."""
    fetch_due: threading.Event = field(default_factory=threading.Event)
    """Set when there may be a file to fetch."""
    delivery_due: threading.Event = field(default_factory=threading.Event)
    """Set when a webhook is to be called now."""

    @property
    def offer(self) -> claims.WorkerOffer:
        """The device and labels that it offers to jobs."""
        return claims.WorkerOffer(device_kind(self.device), tuple(self.labels))

    @property
    def labels(self) -> list[str]:
        """The labels of its operator, and the deployments that it can measure for."""
        offered = self.ability.capabilities
        return [*self.settings.worker.labels, *served(offered, device_kind(self.device))]

    @property
    def maker(self) -> str | None:
        """What the results of steps follow from here; None where none is taken from elsewhere."""
        offered = self.ability.capabilities
        if offered is None or not self.settings.engine.reuse_steps:
            return None
        made_by = offered.model_dump(mode="json", include={"machine", "versions"})
        engine = [metadata.version("planish"), self.device, threads(self.settings)]
        return json.dumps([made_by, engine], sort_keys=True)

    @property
    def conditions(self) -> str | None:
        """What times of single layers hold for here, in words; None before that is known."""
        offered = self.ability.capabilities
        if offered is None:
            return None
        machine, count = offered.machine, threads(self.settings)
        hardware = [machine.processor, *machine.instruction_sets, f"{count} threads"]
        made_by = {**offered.versions, "planish": metadata.version("planish")}
        programs = [f"{name} {made_by[name]}" for name in ("onnxruntime", "planish")]
        return ", ".join([*hardware, machine.system, *programs])

    def note_claim(self, session: Session, kind: str) -> None:
        """Note, here and in the store, that this process has claimed a row of one kind."""
        self.figures.add(counters.CLAIMS, kind)
        self.ability.claimed_at = time.monotonic()
        workers.note_claim(session, self.id)


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
            id=directory.name,
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


def served(offered: Capabilities | None, device: DeviceKind) -> list[str]:
    """Return the deployments whose figures a worker on such a device can measure."""
    return [
        name
        for name, deployment in DEPLOYMENTS.items()
        if offered is not None
        and lacking(name, offered.targets) is None
        and deployment.device in {"cpu", device}
    ]


def threads(settings: Settings) -> int:
    """Return how many threads a run computes with: the processors at hand, shared by the slots."""
    slots = len(settings.worker.devices or ["cpu"])
    return settings.engine.threads or max(1, processors() // slots)
