"""Parts of sentences."""

from collections.abc import Sequence


def listed(items: Sequence[str], most: int) -> str:
    """Return the first ``most`` items in a sentence, and how many are left out."""
    more = len(items) - most
    said = ", ".join(items[:most])
    return f"{said} and {more} more" if more > 0 else said


def minutes(count: float) -> str:
    """Return so many minutes in words."""
    return f"{count:g} minute{'' if count == 1 else 's'}"
