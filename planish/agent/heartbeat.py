"""Says that a task is still worked on, from a thread beside the work."""

import threading
from types import TracebackType
from typing import Self

from planish.client import Client
from planish.errors import Conflict, Forbidden, NotFound, PlanishError
from planish.types import RegisteredDevice, Task

_EVERY_SECONDS = 5.0


class Heartbeat:
    """Renews a task until the block ends; ``lost`` is set where it is not this agent's any more."""

    def __init__(self, client: Client, device: RegisteredDevice, task: Task) -> None:
        self._client, self._device, self._task = client, device, task
        self._ended = threading.Event()
        self.lost = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._ended.wait(_EVERY_SECONDS):
            try:
                self._client.devices.renew(self._device, self._task)
            except (Conflict, Forbidden, NotFound):
                self.lost.set()
                return
            except PlanishError:  # the service is away: the next beat, or the report, says more
                continue
