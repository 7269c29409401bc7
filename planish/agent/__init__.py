"""The agent of a board or phone: it takes files that the service wants timed, and times them.

It needs the client and the runtime alone, and calls the service, never the other way round.
"""

import time
from collections.abc import Callable
from pathlib import Path

from planish.agent import timing
from planish.agent.heartbeat import Heartbeat
from planish.client import Client
from planish.errors import (
    Conflict,
    Invalid,
    NotFound,
    PlanishError,
    TooManyRequests,
    Unavailable,
    Unreachable,
)
from planish.types import RegisteredDevice, Task

POLL_SECONDS = 2.0

_AWAY = (Unreachable, Unavailable, TooManyRequests)
"""What the service answers while it is started again, and what passes."""

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
    """Time files for a device until the process ends; a service that is away is waited for.

    Args:
        client: of the service.
        device: that was registered.
        directory: where files are downloaded to; a task's are deleted after it.
        tell: called with a sentence for whoever watches.
        seconds: the most that one file is run for, by turns with the original.
        most: end after so many tasks. Default: never.

    Raises:
        Forbidden: another agent has registered under the device's name.
        NotFound: the device was deleted.
    """
    done = 0
    while most is None or done < most:
        try:
            task = client.devices.claim(device)
        except _AWAY as away:
            tell(str(away))
            task = None
        if task is None:
            time.sleep(POLL_SECONDS)
            continue
        done += 1
        try:
            _work_on(client, device, task, directory, tell, seconds)
        except (Conflict, NotFound, *_AWAY) as lost:
            tell(f"{task.id}: {lost}")


def _work_on(
    client: Client,
    device: RegisteredDevice,
    task: Task,
    directory: Path,
    tell: Tell,
    seconds: float,
) -> None:
    """Download, time and report; what fails here is reported as the task's problem.

    A task is left to its next claim where the service is away.
    """
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
    except _AWAY:
        raise
    except (PlanishError, timing.NotTimed, OSError) as error:
        problem = str(error)
    finally:
        original.unlink(missing_ok=True)
        candidate.unlink(missing_ok=True)
    if latency is not None:
        try:
            client.devices.report(device, task, latency)
        except Invalid as refused:
            latency, problem = None, f"The times were refused: {refused}"
    if latency is None:
        problem = (problem or "It was not timed.")[:500]
        client.devices.report(device, task, None, problem)
        tell(f"{task.id}: {problem}")
        return
    tell(
        f"{task.id} of {task.job}: {latency.compressed.median:.3g} ms, the original"
        f" {latency.original.median:.3g} ms, {latency.speedup:.2f} times as fast"
    )
