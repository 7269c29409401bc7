"""The time that a run has left: from its pace, and from what its last part took in earlier runs."""

_TOO_SOON = 0.02
"""Progress up to which a pace says nothing."""


class Pace:
    """The progress of a run, which never falls, and the time that it has left.

    Steps take as long as the model and the data make them: their pace tells the rest. What comes
    before them, such as making samples or reading what an earlier run has finished, tells nothing
    of them. What comes after them takes nearly the same time in every run, however short the steps
    were. A pace would promise a small model's job to end at once; so what is expected counts, and a
    pace counts only where it says that more is left.

    Args:
        now: when the run began, in seconds.
    """

    def __init__(self, now: float) -> None:
        self._start, self._from = now, 0.0
        self._is_paced = True
        self._reached = 0.0
        self._last, self._expected = 1.0, 0.0
        self._last_began: float | None = None
        self._part: tuple[float, float, float] | None = None

    def expect(self, after: float, seconds: float) -> None:
        """Say how long the run is expected to take once its progress is ``after``."""
        self._last, self._expected = after, seconds

    def pace_from(self, fraction: float) -> None:
        """Say that the pace counts from ``fraction`` of the progress on: until then it is none."""
        self._from, self._is_paced = fraction, False

    def begin_part(self, now: float, stop: float | None) -> None:
        """Say that a part has begun that reports its progress up to ``stop``; None: it does not."""
        self._part = None if stop is None else (now, self._reached, stop)

    def reach(self, fraction: float, now: float) -> tuple[float, float | None]:
        """Return the progress, and the seconds that are left; None while nothing is known."""
        self._reached = max(self._reached, min(fraction, 1.0))
        if self._reached < self._last:
            if not self._is_paced and self._reached >= self._from:
                self._start, self._is_paced = now, True
            done = self._reached - self._from
            if done <= _TOO_SOON:
                return self._reached, None
            paced = (now - self._start) * (self._last - self._reached) / done
            return self._reached, paced + self._expected
        if self._last_began is None:
            self._last_began = now
        return self._reached, self._left_of_last(now, self._last_began)

    def _left_of_last(self, now: float, began: float) -> float | None:
        """Return what is left of the last part; None where it takes longer than was expected."""
        if self._reached >= 1:
            return 0.0
        left = self._expected - (now - began)
        if self._part is not None:
            since, start, stop = self._part
            if self._reached > start:
                left = max(left, (now - since) * (stop - self._reached) / (self._reached - start))
        return left if left > 0 else None
