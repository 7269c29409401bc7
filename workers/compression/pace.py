"""The time that a run has left: from its pace, and from what its last part took in earlier runs."""

_TOO_SOON = 0.02
"""Progress up to which a pace says nothing."""


class Pace:
    """The progress of a run, which never falls, and the time that it has left.

    Steps take as long as the model and the data make them: their pace tells the rest. What comes
    before them, such as making samples or reading what an earlier run has finished, tells nothing
    of them; then a forecast of the steps stands in, where there is one. What comes after them takes
    nearly the same time in every run, however short the steps were. A pace would promise a small
    model's job to end at once; so what is expected counts, and a pace counts only where it says
    that more is left.

    Args:
        now: when the run began, in seconds.
    """

    def __init__(self, now: float) -> None:
        self._start, self._from = now, 0.0
        self._begins_at: float | None = None
        self._reached = 0.0
        self._last, self._expected = 1.0, 0.0
        self._steps: float | None = None
        self._last_began: float | None = None
        self._part: tuple[float, float, float] | None = None
        self._part_expected: float | None = None

    def expect(self, after: float, seconds: float, before: float | None) -> None:
        """Say how long the run is expected to take once its progress is ``after``.

        ``before`` is what its steps are expected to take; None where nothing is known of them.
        """
        self._last, self._expected, self._steps = after, seconds, before

    def pace_from(self, fraction: float) -> None:
        """Say that the pace counts from ``fraction`` of the progress on: until then it is none."""
        self._begins_at = fraction

    def pace_anew(self) -> None:
        """Say that an earlier run has done the work up to the next report: the pace counts from it.

        Of how much that was, the forecast of the steps knows nothing.
        """
        self._begins_at, self._steps = self._reached, None

    def begin_part(self, now: float, start: float, stop: float, seconds: float | None) -> None:
        """Say that a part begins that reports its progress from ``start`` to ``stop``.

        ``seconds`` is what it is expected to take, until it has a pace.
        """
        self._part = now, max(self._reached, start), stop
        self._part_expected = seconds

    def end_part(self) -> None:
        """Say that what comes reports no progress until it is done."""
        self._part = None

    def reach(self, fraction: float, now: float) -> tuple[float, float | None]:
        """Return the progress, and the seconds that are left; None while nothing is known."""
        self._reached = max(self._reached, min(fraction, 1.0))
        if self._reached < self._last:
            steps = self._left_of_steps(now)
            return self._reached, None if steps is None else steps + self._expected
        if self._last_began is None:
            self._last_began = now
        return self._reached, self._left_of_last(now, self._last_began)

    def _left_of_steps(self, now: float) -> float | None:
        """Return what is left of the steps and of what comes before them; None while unknown."""
        if self._begins_at is not None:
            if self._reached < self._begins_at:
                first = self._left_of_part(now)
                return None if first is None or self._steps is None else first + self._steps
            self._start, self._from, self._begins_at = now, self._reached, None
        done = self._reached - self._from
        if done > _TOO_SOON:
            return (now - self._start) * (self._last - self._reached) / done
        left = None if self._steps is None else self._steps - (now - self._start)
        return left if left is None or left > 0 else None

    def _left_of_last(self, now: float, began: float) -> float | None:
        """Return what is left of the last part; None where it takes longer than was expected."""
        if self._reached >= 1:
            return 0.0
        left = max(self._expected - (now - began), self._left_of_part(now) or 0.0)
        return left if left > 0 else None

    def _left_of_part(self, now: float) -> float | None:
        """Return what is left of the part, by its own pace once it has one; None while unknown."""
        if self._part is None:
            return None
        since, start, stop = self._part
        if self._reached <= start:
            expected = self._part_expected
            return None if expected is None else max(expected - (now - since), 0.0)
        return (now - since) * (stop - self._reached) / (self._reached - start)
