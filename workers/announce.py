"""Announces what this worker process can do; the gateway and ``planish doctor`` read it.

A process that cannot complete a small test job announces that, takes no work, and tries again
twice a minute.
"""

import os
import socket

import structlog

from app.domain.directory import ORDER, Describe
from app.domain.targets import TOOL_OF, Target
from app.domain.workers import Capabilities, Confinement
from app.store import schema, workers
from app.store.session import AWAY, first_line, transaction
from workers import trial
from workers.runs import answers, tools
from workers.sandbox import directories
from workers.sandbox.server import SandboxError
from workers.tools import environments
from workers.worker import Worker, threads

RETRY_SECONDS = 30.0
"""The time after which an unable process tries again; less than the time after which it counts as
dead."""

AWAY_SECONDS = 2.0

log = structlog.get_logger(__name__)


def await_ability(worker: Worker) -> bool:
    """Retry until this process can run jobs; return False if it is stopped before.

    Raises:
        Unavailable: the tables are of another version.
    """
    while worker.ability.lacking is not None:
        log.error("this worker takes no jobs", reason=worker.ability.lacking)
        if worker.stopping.wait(RETRY_SECONDS):
            return False
        announce(worker)
    return True


def announce(worker: Worker) -> None:
    """Run the test job, ask the engine about the machine, and store both answers.

    Raises:
        Unavailable: the tables are of another version.
    """
    confinement = capabilities = None
    try:
        with worker.sandboxes.lend() as sandbox:
            confinement = Confinement.model_validate(sandbox.probe())
            worker.ability.lacking = trial.shortcoming(
                sandbox,
                worker.directory,
                worker.settings.engine,
                entry=worker.entry,
                threads=threads(worker.settings),
            )
        if worker.ability.lacking is None and worker.queue == "jobs":
            capabilities = _capabilities(worker)
    except SandboxError as error:
        worker.ability.lacking = str(error)
    worker.ability.confinement, worker.ability.capabilities = confinement, capabilities
    while not worker.stopping.is_set():
        try:
            store_announcement(worker)
        except AWAY as error:
            log.warning("the database does not answer", error=first_line(error))
            worker.stopping.wait(AWAY_SECONDS)
        else:
            break
    log.info("worker announced", worker=worker.id, queue=worker.queue, device=worker.device)


def store_announcement(worker: Worker) -> None:
    """Store the last announcement of this process.

    Raises:
        Unavailable: the tables are of another version.
    """
    with transaction(worker.sessions) as session:
        schema.require(session)
        workers.announce(
            session,
            worker.id,
            hostname=socket.gethostname(),
            pid=os.getpid(),
            queue=worker.queue,
            device=worker.device,
            labels=worker.labels,
            capabilities=worker.ability.capabilities,
            confinement=worker.ability.confinement,
            unable=worker.ability.lacking,
        )


def _capabilities(worker: Worker) -> Capabilities | None:
    """Ask the engine, in its sandbox, to describe the machine as runs will see it."""
    with directories.place(worker.directory) as place, worker.sandboxes.lend() as sandbox:
        (place.engine / ORDER).write_text(Describe().model_dump_json())
        sandbox.start(place.engine, trial.limits(worker.settings.engine)).wait(trial.SECONDS)
        answer = answers.result(place)
        if answer is None:
            log.warning("the engine does not describe itself", said=answers.last_words(place))
        if answer is None or answer.capabilities is None:
            return None
        return _with_tools(worker, answer.capabilities)


def _with_tools(worker: Worker, capabilities: Capabilities) -> Capabilities:
    """Add the formats of the tools that are installed and can start in their sandbox."""
    by_tool = {
        tool: [name for name, needs in TOOL_OF.items() if needs == tool]
        for tool in environments.installed(environments.base(worker.settings.worker.tools))
    }
    targets = list(capabilities.targets)
    cpu = [device for target in targets[:1] for device in target.devices if device.kind == "cpu"]
    for tool, formats in by_tool.items():
        try:
            if tool not in environments.FILES_ALONE:
                with tools.sandbox_of(worker.settings, tool) as sandbox:
                    sandbox.probe()
        except SandboxError as error:
            log.warning("a tool does not start", tool=tool, error=str(error))
            continue
        runtimes = {name: environments.runtime_of(name) for name in formats}
        targets += [
            Target(
                target=name,
                runtime=runtimes[name][0],
                version=runtimes[name][1],
                devices=cpu,
                accelerates=targets[0].accelerates if targets else [],
            )
            for name in formats
        ]
    return capabilities.model_copy(update={"targets": targets})
