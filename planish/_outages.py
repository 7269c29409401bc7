"""Telling whoever waits that the service is away, and that it is back."""

from collections.abc import Callable

Tell = Callable[[str], None]

_TOLD = 2
"""Failures in a row from which on it is told: a connection may break once, and nobody waits."""


class Outage:
    """What is known of the way to one service; each change is told once.

    Args:
        url: of the service.
        tell: takes a sentence.
    """

    def __init__(self, url: str, tell: Tell | None) -> None:
        self._url = url
        self._tell = tell
        self._failures = 0

    def failed(self, why: str) -> None:
        """Note that a request was not answered, or not by the service, and is sent again."""
        self._failures += 1
        if self._tell is not None and self._failures == _TOLD:
            self._tell(f"{self._url} does not answer ({why}); trying again …")

    def answered(self) -> None:
        """Note that the service has answered."""
        if self._tell is not None and self._failures >= _TOLD:
            self._tell(f"{self._url} answers again.")
        self._failures = 0
