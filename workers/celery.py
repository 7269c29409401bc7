"""A worker process: ``python -m workers.celery --queue jobs --device cpu``.

Threads, not processes: the engine runs in processes of its own, which a fork server starts, and
the storage client must not be forked. Messages are acknowledged at once, because the job store and
not the queue knows what is to be done.
"""

import argparse
import signal
import sys
import threading
import warnings
from typing import Any

import structlog
from celery import Celery
from celery.apps.worker import install_worker_term_handler
from celery.platforms import SecurityWarning
from celery.signals import setup_logging, worker_ready, worker_shutting_down

from app import logs, nudge
from app.domain.problems import Unavailable
from app.settings import Settings
from workers import tasks, worker
from workers.announce import announce, await_ability
from workers.sandbox.server import ENTRY, SandboxError
from workers.upkeep.collect import collect_hourly
from workers.upkeep.look import look
from workers.webhooks.dispatch import dispatch

FREE_SLOT_SECONDS = 0.05
"""After which a free slot takes the next message. None is taken in advance, for a busy worker
would keep it from an idle one."""

log = structlog.get_logger(__name__)


def application(settings: Settings) -> Celery:
    """Return the Celery application that takes nudges."""
    celery = Celery("planish", broker=settings.broker.url)
    celery.conf.update(
        accept_content=["json"],
        task_ignore_result=True,
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        worker_hijack_root_logger=False,
        worker_proc_alive_timeout=60,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={"health_check_interval": 25, "socket_keepalive": True},
    )
    return celery


def run(settings: Settings, queue: worker.Queue, device: str, *, entry: str = ENTRY) -> None:
    """Work off a queue until SIGTERM; what runs then is given back."""
    logs.configure(settings.logging)
    signal.signal(signal.SIGTERM, _leave)
    with worker.opened(settings, queue, device, entry=entry) as me:
        announce(me)
        celery = application(settings)
        tasks.register(celery, me)
        beside = [threading.Thread(target=look, args=(me,), name="look")]
        if queue == "light":
            due = (me.sessions, settings, me.id, me.delivery_due, me.stopping)
            beside.append(threading.Thread(target=dispatch, args=due, name="dispatch"))
            beside.append(threading.Thread(target=collect_hourly, args=(me,), name="collect"))

        def ready(sender: Any, **_: object) -> None:
            sender.hub.call_repeatedly(FREE_SLOT_SECONDS, _nothing)
            install_worker_term_handler(sender, verbose=False)

        def stop(**_: object) -> None:
            me.stopping.set()
            me.delivery_due.set()

        worker_ready.connect(ready, weak=False)
        worker_shutting_down.connect(stop, weak=False)
        setup_logging.connect(_ours, weak=False)
        warnings.filterwarnings("ignore", category=SecurityWarning)  # root: messages are JSON ids
        words = [
            "--quiet",
            "worker",
            "--pool=threads",
            f"--concurrency={me.slots.total + (queue == 'light')}",  # one for nudges of webhooks
            f"--queues={queue}",
        ]
        words += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        for thread in beside:
            thread.start()
        try:
            if await_ability(me):
                celery.worker_main([*words, f"--hostname={me.id}@%h"])
        finally:
            stop()
            for thread in beside:
                thread.join()


def _leave(*_: object) -> None:
    """End in order, before Celery has put its own handler in this one's place."""
    raise SystemExit(0)


def _nothing() -> None:
    """Wake the event loop: it does not notice by itself that a thread, and so a slot, is free."""


def _ours(**_: object) -> None:
    """Keep Celery from setting up logging: it is done."""


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="workers.celery", description=__doc__)
    parser.add_argument("--queue", choices=sorted(set(nudge.QUEUES.values())), required=True)
    parser.add_argument("--device", default="cpu", help="cpu, or cuda:N")
    options = parser.parse_args()
    try:
        run(Settings(), options.queue, options.device)
    except (Unavailable, SandboxError) as problem:
        log.critical("the worker does not start", reason=str(problem))
        sys.exit(1)


if __name__ == "__main__":
    main()
