"""The progress of a piece of work, as the fraction that is done."""

from collections.abc import Callable

Advance = Callable[[float], None]
"""Is called with the fraction done, from 0 to 1."""


def span(advance: Advance, start: float, stop: float) -> Advance:
    """Return the progress of a part, which takes the whole from ``start`` to ``stop``."""
    return lambda done: advance(start + (stop - start) * done)


def turn(advance: Advance, index: int, count: int) -> Advance:
    """Return the progress of one of several turns that take equally long; the first is turn 0."""
    return span(advance, index / count, (index + 1) / count)
