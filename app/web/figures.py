"""Numbers for people."""

from dataclasses import dataclass

_PREFIXES = ("", "k", "M", "G", "T")


def isolated(name: str) -> str:
    """Return a name that cannot turn the direction of the text around it, where HTML has no tags.

    It stands between U+2068 and U+2069, as in <https://www.unicode.org/reports/tr9/>.
    """
    return f"\N{FIRST STRONG ISOLATE}{name}\N{POP DIRECTIONAL ISOLATE}"


@dataclass(frozen=True)
class Number:
    """A number for reading, and all its digits where those differ."""

    text: str
    exact: str = ""


def scaled(value: int, unit: str) -> Number:
    """Return 21,234,383 B as 21.2 MB, with its digits beside it."""
    rest, power = float(value), 0
    while rest >= 999.5 and power < len(_PREFIXES) - 1:
        rest, power = rest / 1000, power + 1
    if power == 0:
        return Number(f"{value} {unit}".rstrip())
    places = 2 if rest < 9.995 else 1 if rest < 99.95 else 0
    return Number(f"{rest:.{places}f} {_PREFIXES[power]}{unit}", f"{value:,}")
