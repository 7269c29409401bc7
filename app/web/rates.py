"""How often a key may call: requests in a minute, counted by each gateway process for itself.

The headers are those of draft-ietf-httpapi-ratelimit-headers.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

WINDOW_SECONDS = 60
_MOST_KEYS = 10_000
"""Keys whose windows are kept; those that ran out are forgotten first."""


@dataclass(frozen=True)
class Standing:
    """How many requests a key has left, and for how long."""

    quota: int
    left: int
    """Below zero where the request is one too many."""
    seconds: int
    """Until the window ends."""

    def headers(self) -> dict[str, str]:
        """Return what a response to the key carries."""
        return {
            "RateLimit-Policy": f'"requests";q={self.quota};w={WINDOW_SECONDS}',
            "RateLimit": f'"requests";r={max(self.left, 0)};t={self.seconds}',
        }


class Rates:
    """Counts the requests of each key in windows of a minute."""

    def __init__(self, quota: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._quota = quota
        self._clock = clock
        self._windows: dict[str, tuple[float, int]] = {}
        self._lock = Lock()

    def take(self, key: str) -> Standing:
        """Count a request of a key."""
        now = self._clock()
        with self._lock:
            end, used = self._windows.get(key, (0.0, 0))
            if end <= now:
                end, used = now + WINDOW_SECONDS, 0
                self._forget(now)
            self._windows[key] = (end, used + 1)
        return Standing(self._quota, self._quota - used - 1, math.ceil(end - now))

    def _forget(self, now: float) -> None:
        if len(self._windows) >= _MOST_KEYS:
            self._windows = {key: each for key, each in self._windows.items() if each[0] > now}
