"""The agent of a board or phone: it takes files that the service wants timed, and times them.

It needs the client and the runtime alone, and calls the service, never the other way round.
"""

import time
from collections.abc import Callable
from pathlib import Path

from planish.agent import timing
from planish.agent.heartbeat import Heartbeat
from planish.client import Client
from planish.errors import Conflict, PlanishError
from planish.types import RegisteredDevice, Task

POLL_SECONDS = 2.0

Tell = Callable[[str], None]


def serve(
    client: Client,
    device: RegisteredDevice,
    directory: Path,
    tell: Tell,
    *,
    seconds: float = timing.SECONDS,
    most: int | None = None,
) -> None:
    """Time files for a device until the process ends.

    Args:
        client: of the service.
        device: that was registered.
        directory: where files are downloaded to; a task's are deleted after it.
        tell: called with a sentence for whoever watches.
        seconds: the most that one file is run for, by turns with the original.
        most: end after so many tasks. Default: never.

    Raises:
        Forbidden: another agent has registered under the device's name.
    """
    done = 0
    while most is None or done < most:
        task = client.devices.claim(device)
        if task is None:
            time.sleep(POLL_SECONDS)
            continue
        done += 1
        try:
            _work_on(client, device, task, directory, tell, seconds)
        except Conflict as lost:
            tell(f"{task.id}: {lost}")


def _work_on(
    client: Client,
    device: RegisteredDevice,
    task: Task,
    directory: Path,
    tell: Tell,
    seconds: float,
) -> None:
    """Download, time and report; what fails here is reported as the task's problem."""
    original, candidate = directory / "original", directory / "candidate"
    latency, problem = None, None
    try:
        with Heartbeat(client, device, task) as heartbeat:
            client.devices.download(task.original, original)
            client.devices.download(task.candidate, candidate)
            order = timing.Order(
                original=original,
                candidate=candidate,
                run=task.run,
                threads=device.threads,
                seconds=seconds,
            )
            latency = timing.apart(order, heartbeat)
    except Conflict:
        raise
    except (PlanishError, timing.NotTimed) as error:
        problem = str(error)[:500]
    finally:
        original.unlink(missing_ok=True)
        candidate.unlink(missing_ok=True)
    client.devices.report(device, task, latency, problem)
    if latency is None:
        tell(f"{task.id}: not timed. {problem}")
        return
    tell(
        f"{task.id} of {task.job}: {latency.compressed.median:.3g} ms, the original"
        f" {latency.original.median:.3g} ms, {latency.speedup:.2f} times as fast"
    )
