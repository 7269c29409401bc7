"""Lists for people: a line of figures for each item, and what is said of it in words below.

One item is a field a line.

In a narrow column of a table words are broken in the middle; below it they have the whole window.
"""

from collections.abc import Iterable, Mapping, Sequence

from rich.cells import cell_len
from rich.padding import Padding
from rich.text import Text

from planish.cli.consoles import console

_BETWEEN = 2
"""Spaces between columns, and before words."""


def print_rows(headings: Sequence[str], rows: Iterable[tuple[Sequence[object], str]]) -> None:
    """Print items below headings; a column that is empty throughout is left out.

    Args:
        headings: of the figures; numbers stand to the right.
        rows: of each item the figures, and the words, empty where there are none.
    """
    items = [*rows]
    if not items:
        console(stderr=True).print("There are none.")
        return
    by_heading = {
        heading: [figures[index] for figures, _ in items] for index, heading in enumerate(headings)
    }
    columns = [
        _column(heading, values)
        for heading, values in by_heading.items()
        if any(value not in (None, "") for value in values)
    ]
    first, *lines = ((" " * _BETWEEN).join(cells).rstrip() for cells in zip(*columns, strict=True))
    out = console()
    out.print(Text(first, style="bold"))
    for line, (_, words) in zip(lines, items, strict=True):
        out.print(line)
        if words:
            out.print(Padding(Text(words), (0, 0, 0, _BETWEEN), expand=False))


def print_fields(fields: Mapping[str, str]) -> None:
    """Print the fields of one item, each beside its name."""
    width = max(map(len, fields)) + _BETWEEN
    out = console()
    for name, value in fields.items():
        first, *more = Text(value).wrap(out, max(out.width - width, 1))
        out.print(Text(name.ljust(width)) + first)
        for line in more:
            out.print(Padding(line, (0, 0, 0, width), expand=False))


def _column(heading: str, values: Sequence[object]) -> list[str]:
    """Return the cells of a column, of the same width."""
    cells = [heading, *map(_cell, values)]
    width = max(map(cell_len, cells))
    blanks = [" " * (width - cell_len(cell)) for cell in cells]
    if any(isinstance(value, int | float) for value in values):
        return [blank + cell for blank, cell in zip(blanks, cells, strict=True)]
    return [cell + blank for blank, cell in zip(blanks, cells, strict=True)]


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
