"""Uploads on their way: how many a tenant has at one time, and the threads that move bytes."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import Lock
from typing import ParamSpec, TypeVar

from anyio import CapacityLimiter, to_thread

from app.domain.problems import TooManyRequests

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")

_RETRY_AFTER_SECONDS = 5
_THREADS = 64

_limiter = CapacityLimiter(_THREADS)


async def moving(
    action: Callable[Arguments, Answer], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Answer:
    """Run an action that moves bytes in a thread that no other request waits for.

    A slow storage would otherwise hold the threads of all requests.
    """
    return await to_thread.run_sync(partial(action, *args, **kwargs), limiter=_limiter)


class Arrivals:
    """Counts the uploads of each tenant that are on their way to this gateway.

    Args:
        most: that a tenant may have.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._counts: Counter[str] = Counter()
        self._lock = Lock()

    @contextmanager
    def one(self, tenant: str) -> Iterator[None]:
        """Count an upload for the context.

        Raises:
            TooManyRequests: The tenant has as many as it may.
        """
        with self._lock:
            if self._counts[tenant] >= self._most:
                raise TooManyRequests(
                    f"You send {self._most} files at this moment, as many as you may: wait until"
                    " one of them has arrived.",
                    headers={"Retry-After": str(_RETRY_AFTER_SECONDS)},
                )
            self._counts[tenant] += 1
        try:
            yield
        finally:
            with self._lock:
                self._counts[tenant] -= 1
                if not self._counts[tenant]:
                    del self._counts[tenant]
