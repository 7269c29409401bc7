"""Say what this worker process can do; the gateway reads it, ``planish doctor`` shows it."""

import os
import socket

import structlog

from app.domain.directory import ORDER, Describe
from app.domain.workers import Capabilities, Confinement
from app.store import workers
from app.store.session import transaction
from workers.runs import answers
from workers.sandbox import directories
from workers.sandbox.server import Limits
from workers.worker import Worker

DESCRIBE_SECONDS = 120.0

log = structlog.get_logger(__name__)


def announce(worker: Worker) -> None:
    """Try out the confinement, ask the engine about the machine, and store both.

    Raises:
        SandboxError: this machine cannot confine runs as it is required to.
    """
    with worker.sandboxes.one() as sandbox:
        confinement = Confinement.model_validate(sandbox.probe())
    capabilities = _capabilities(worker) if worker.queue == "jobs" else None
    with transaction(worker.sessions) as session:
        workers.announce(
            session,
            worker.id,
            hostname=socket.gethostname(),
            pid=os.getpid(),
            queue=worker.queue,
            device=worker.device,
            capabilities=capabilities,
            confinement=confinement,
        )
    log.info("worker announced", worker=worker.id, queue=worker.queue, device=worker.device)


def _capabilities(worker: Worker) -> Capabilities | None:
    """Ask the engine to describe itself, in its sandbox, where it sees what runs will see."""
    engine = worker.settings.engine
    limits = Limits(
        memory_bytes=engine.memory_bytes,
        cpu_seconds=None,
        file_bytes=engine.directory_bytes,
        directory_bytes=engine.directory_bytes,
        processes=engine.processes,
        wall_seconds=DESCRIBE_SECONDS,
    )
    with directories.place(worker.directory) as place, worker.sandboxes.one() as sandbox:
        (place.engine / ORDER).write_text(Describe().model_dump_json())
        sandbox.start(place.engine, limits).wait(DESCRIBE_SECONDS)
        answer = answers.result(place)
        if answer is None:
            log.warning("the engine does not describe itself", said=answers.last_words(place))
        return answer.capabilities if answer else None
