"""Latencies: how times of two files are compared, and what a run reads that is timed."""

from collections.abc import Callable

from app.domain.frozen import Frozen


class Spread(Frozen):
    """Latencies of interleaved runs, milliseconds."""

    median: float
    p10: float
    p90: float
    runs: int


_WIDEST = 4.0
"""An interval whose ends are further apart than this ratio says nothing."""

_SAME = 0.03
"""Latencies that differ by less are called equal, as the difference is noise."""


def too_wide(low: float, high: float) -> bool:
    """Return whether an interval of a ratio says nothing, as its ends are that far apart."""
    return high > _WIDEST * low


def same_speed(speedup: float) -> bool:
    """Return whether two latencies of this ratio are called equal."""
    return abs(speedup - 1) <= _SAME


class Comparison(Frozen):
    """Original against compressed, in one process, run by turns with the same threads."""

    original: Spread
    compressed: Spread
    speedup: float
    """How many times longer the original takes: the median over the rounds."""
    speedup_low: float | None = None
    """The median lies between this and ``speedup_high`` with 99 % confidence (sign test)."""
    speedup_high: float | None = None
    certain: bool = True
    """Whether that interval is within 3 % of ``speedup``; if not, the machine was busy."""
    left_out: int = 0
    """Rounds that do not count: other work took the processor away in them."""

    @property
    def interval(self) -> str | None:
        """The interval of the true speed-up in words; None where it is unknown or too wide."""
        low, high = self.speedup_low, self.speedup_high
        if low is None or high is None or too_wide(low, high):
            return None
        return f"{low:.2f} to {high:.2f}"

    def likely(self, say: Callable[[float], str]) -> str:
        """Return the compressed one's time in words, which do not contradict the interval.

        Of a busy machine the two medians may be of different moments: then the words give an
        interval for the time, beside the original's median.

        Args:
            say: milliseconds in words.
        """
        low, high = self.speedup_low, self.speedup_high
        if self.certain or self.interval is None or not low or not high:
            return say(self.compressed.median)
        return " to ".join(say(self.original.median / each) for each in (high, low))


class Credited(Comparison):
    """A comparison that says how much of the speed is no work of the steps."""

    tidied: Comparison | None = None
    """The original against itself once its graph is tidied, without any change of its weights, in
    the same rounds. Null where tidying leaves its operators as they are, and in reports that are
    older than the figure."""

    @property
    def by_tidying(self) -> float | None:
        """How many times faster tidying alone makes the original.

        None where it does not, or where that could not be told.
        """
        alone = self.tidied
        if alone is None or not (alone.certain and self.certain):
            return None
        return None if same_speed(alone.speedup) or alone.speedup < 1 else alone.speedup


class Latency(Credited):
    """The comparison with the threads that serve, and with one."""

    one_thread: Credited | None = None
    """Null where one thread serves, or where it would have taken too long."""

    @property
    def deciding(self) -> Credited:
        """The comparison to go by: with one thread where only that one is certain."""
        alone = self.one_thread
        return alone if alone and alone.certain and not self.certain else self


class RunInput(Frozen):
    """One array that a timed run reads."""

    name: str
    dtype: str
    """numpy's name, such as ``float32``."""
    shape: list[int]
    below: int | None = None
    """Integers of this input were less than that and not negative, such as ids of tokens; null for
    other types, and where one was negative."""


class TimedRun(Frozen):
    """What one timed run reads, so that it can be timed again elsewhere."""

    inputs: list[RunInput]
    samples: int
    """How many samples a run takes; latencies are those of one."""
