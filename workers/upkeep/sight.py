"""For how long a process has seen the database, before it judges those who do not renew."""

from datetime import datetime, timedelta


class Sight:
    """Since when looks at the database have succeeded without a gap, by the database's clock.

    After a gap, leases may have run out that nobody could renew: the database was restarted,
    another server took over, the machine slept. Their holders get a lease's time to renew, which is
    the time that the next looks have to span.

    Args:
        gap_seconds: looks that are further apart, or go back in time, begin anew.
    """

    def __init__(self, gap_seconds: float) -> None:
        self._gap = timedelta(seconds=gap_seconds)
        self._first: datetime | None = None
        self._last: datetime | None = None

    def lose(self) -> None:
        """Say that a look failed."""
        self._first = self._last = None

    def span(self, now: datetime) -> float:
        """Say that a look succeeded at ``now``; return how many seconds the looks span."""
        if self._last is None or not timedelta(0) <= now - self._last <= self._gap:
            self._first = now
        self._last = now
        assert self._first is not None, "it is set with the first look"
        return (now - self._first).total_seconds()
