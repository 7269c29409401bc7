"""How much of one kind a tenant may have going on at one time, at this gateway."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from app.domain.problems import TooManyRequests

_RETRY_AFTER_SECONDS = 5


class AtOnce:
    """Counts what each tenant has going on.

    Args:
        most: that a tenant may have.
        refusal: what is said to a tenant that has as many, and what to do instead.
    """

    def __init__(self, most: int, refusal: str) -> None:
        self._most = most
        self._refusal = refusal
        self._counts: Counter[str] = Counter()
        self._lock = Lock()

    @contextmanager
    def one(self, tenant: str) -> Iterator[None]:
        """Count one more for the context.

        Raises:
            TooManyRequests: The tenant has as many as it may.
        """
        with self._lock:
            if self._counts[tenant] >= self._most:
                raise TooManyRequests(
                    self._refusal, headers={"Retry-After": str(_RETRY_AFTER_SECONDS)}
                )
            self._counts[tenant] += 1
        try:
            yield
        finally:
            with self._lock:
                self._counts[tenant] -= 1
                if not self._counts[tenant]:
                    del self._counts[tenant]


def arrivals(most: int) -> AtOnce:
    """Return the count of requests that send a file."""
    return AtOnce(
        most,
        f"You send {most} files at this moment, which is the limit: wait until one of them has"
        " arrived.",
    )


def streams(most: int) -> AtOnce:
    """Return the count of event streams that are open."""
    return AtOnce(
        most,
        f"You have {most} event streams open, which is the limit: close one, or ask for the job"
        " itself now and then.",
    )
