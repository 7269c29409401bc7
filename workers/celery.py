"""A worker process: ``python -m workers.celery --queue jobs --device cpu``.

Celery uses threads, not processes: the engine runs in processes of its own, which a fork server
starts, and the storage client must not be forked. Messages are acknowledged at once, because the
job store, not the queue, holds the work.
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
from celery.worker import state

from app import logs, nudge, tracing
from app.domain.problems import Unavailable
from app.settings import Settings
from workers import tasks, worker
from workers.announce import announce, await_ability
from workers.fetching.dispatch import fetch_due
from workers.sandbox.server import ENTRY, SandboxError
from workers.upkeep.collect import collect_hourly
from workers.upkeep.look import look
from workers.upkeep.sweep import sweep_dead
from workers.webhooks.dispatch import dispatch

FREE_SLOT_SECONDS = 0.05
"""The time after which a free slot takes the next message. No message is prefetched, as a busy
worker would keep it from an idle one."""

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
    """Process a queue until SIGTERM; running work is then given back."""
    logs.configure(settings.logging)
    tracing.configure(settings.tracing, "worker")
    signal.signal(signal.SIGTERM, _exit_early)
    with worker.opened(settings, queue, device, entry=entry) as process:
        announce(process)
        celery = application(settings)
        tasks.register(celery, process)
        threads = [
            threading.Thread(target=look, args=(process,), name="look"),
            threading.Thread(target=sweep_dead, args=(process,), name="sweep"),
        ]
        if queue == "light":
            shared = (
                process.sessions,
                settings,
                process.id,
                process.delivery_due,
                process.stopping,
            )
            threads.append(threading.Thread(target=dispatch, args=shared, name="dispatch"))
            threads.append(threading.Thread(target=fetch_due, args=(process,), name="fetch"))
            threads.append(threading.Thread(target=collect_hourly, args=(process,), name="collect"))

        def ready(sender: Any, **_: object) -> None:
            sender.hub.call_repeatedly(FREE_SLOT_SECONDS, _wake)
            install_worker_term_handler(sender, verbose=False)

        def stop(**_: object) -> None:
            process.stopping.set()
            process.delivery_due.set()
            process.fetch_due.set()

        worker_ready.connect(ready, weak=False)
        worker_shutting_down.connect(stop, weak=False)
        setup_logging.connect(_skip_logging_setup, weak=False)
        # Running as root is safe: messages are ids in JSON.
        warnings.filterwarnings("ignore", category=SecurityWarning)
        arguments = [
            "--quiet",
            "worker",
            "--pool=threads",
            f"--concurrency={process.slots.total + (queue == 'light')}",  # one for webhooks
            f"--queues={queue}",
        ]
        arguments += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        for thread in threads:
            thread.start()
        try:
            if await_ability(process):
                celery.worker_main([*arguments, f"--hostname={process.id}@%h"])
        finally:
            stop()
            for thread in threads:
                thread.join()


def _exit_early(*_: object) -> None:
    """Exit cleanly on a signal that arrives before Celery has installed its own handler.

    The exception is lost where a destructor happens to run; Celery then ends by its flag.
    """
    state.should_stop = 0
    raise SystemExit(0)


def _wake() -> None:
    """Wake the event loop, which does not notice by itself that a thread has become free."""


def _skip_logging_setup(**_: object) -> None:
    """Keep Celery from setting up logging, which is done already."""


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
