"""Which of our representations a client prefers (RFC 9110, section 12.5.1)."""

from collections.abc import Sequence

_MOST = 50
"""Media ranges that are looked at."""


def preferred(accept: str, offered: Sequence[str]) -> str | None:
    """Return the offered media type that ``Accept`` wants most; the first of equals; else None."""
    ranges = [_parse(part) for part in (accept.strip() or "*/*").split(",")[:_MOST]]
    best = max(offered, key=lambda media: _quality(media, ranges))
    return best if _quality(best, ranges) > 0 else None


def _parse(part: str) -> tuple[str, float]:
    media, *parameters = (piece.strip().lower() for piece in part.split(";"))
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return media, min(max(float(parameter[2:]), 0.0), 1.0)
            except ValueError:
                return media, 0.0
    return media, 1.0


def _quality(media: str, ranges: Sequence[tuple[str, float]]) -> float:
    """Return the quality of the most specific range that matches."""
    kind = media.split("/", maxsplit=1)[0]
    for pattern in (media, f"{kind}/*", "*/*"):
        found = [quality for given, quality in ranges if given == pattern]
        if found:
            return max(found)
    return 0.0
