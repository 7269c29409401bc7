"""Measures for how long a process has reached the database without interruption."""

from datetime import datetime, timedelta


class Sight:
    """The time since when queries have succeeded without a gap, by the database's clock.

    After a gap, leases may have run out that nobody could renew: the database was restarted,
    another server took over, the machine slept. Their holders then get the duration of a lease to
    renew: the next queries have to span that time before a lease counts as expired.

    Args:
        gap_seconds: for how long the database may be away without any lease running out. Queries
            that are further apart, or go back in time, start a new span.
    """

    def __init__(self, gap_seconds: float) -> None:
        self._gap = timedelta(seconds=gap_seconds)
        self._first: datetime | None = None
        self._last: datetime | None = None

    def lose(self) -> None:
        """Note a failed query: the span of successful ones begins anew."""
        self._first = self._last = None

    def span(self, now: datetime) -> float:
        """Note a successful query at ``now``; return the seconds that the queries span."""
        if self._last is None or not timedelta(0) <= now - self._last <= self._gap:
            self._first = now
        self._last = now
        assert self._first is not None, "it is set with the first look"
        return (now - self._first).total_seconds()
