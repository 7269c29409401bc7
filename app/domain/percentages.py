"""Shares: in percent, as sentences and tables have them, and as people write them."""

from math import isfinite

_ENOUGH = 30
"""Of fewer samples, each one moves a share by more than 3 %."""


def percent(share: float, digits: int = 0) -> str:
    """Return a share in percent; 1 is all."""
    return f"{100 * share:.{digits}f} %"


def percent_kept(share: float, digits: int = 1) -> str:
    """Return a share in percent: less than all is never rounded to 100, less than none is nothing.

    Args:
        share: 1 is all.
        digits: after the point; more, where fewer would say 100.
    """
    if share < 0:
        return "nothing"
    enough = (n for n in range(digits, 7) if share == 1 or round(100 * share, n) < 100)
    return f"{100 * share:.{next(enough, 7)}f} %"


def few(samples: int | None) -> str:
    """Return how many samples a share is of, where they are so few that it says little."""
    if samples is None or samples >= _ENOUGH:
        return ""
    return "1 sample only" if samples == 1 else f"{samples} samples only"


def share(text: str) -> float:
    """Return the share that a person wrote: ``0.05``, ``5 %`` or ``5%``.

    Raises:
        ValueError: It is none; the message says how to write one.
    """
    number, of_hundred = text.strip(), text.rstrip().endswith("%")
    try:
        value = float(number.removesuffix("%"))
    except ValueError:
        value = float("nan")
    if not isfinite(value):
        raise ValueError(f"{text!r} is no share: write 0.01, or 1 %, for one in a hundred")
    return value / 100 if of_hundred else value
