"""Tables whose rows are cards on a phone: each cell knows what its column is called."""

import re
from html import escape, unescape

from markupsafe import Markup

_HEAD = re.compile(r"<thead>.*?</thead>", re.DOTALL)
_NAME = re.compile(r"<th\b[^>]*>(.*?)</th>", re.DOTALL)
_CELL = re.compile(r"<(tr|th|td)\b([^>]*)>(–(?=</td>))?")
_SPAN = re.compile(r'colspan="(\d+)"')
_TAG = re.compile(r"<[^>]*>")


def labelled(table: Markup) -> Markup:
    """Return a table each of whose cells carries the name of its column, for style sheets to show.

    It is ours and escaped: what looks like a tag is one. What heads a row needs no name, what spans
    columns has none, and a dash says what a card says without it.
    """
    head = _HEAD.search(table)
    if head is None:
        return table
    names = [escape(unescape(_TAG.sub("", name))) for name in _NAME.findall(head[0])]
    column = 0

    def with_name(found: re.Match[str]) -> str:
        nonlocal column
        tag, given, dash = found.groups()
        if tag == "tr":
            column = 0
            return found[0]
        span, place = _SPAN.search(given), column
        column += int(span[1]) if span else 1
        if tag == "th" or span or place >= len(names):
            return found[0]
        return f"<td{given} data-none>–" if dash else f'<td{given} data-label="{names[place]}">'

    body = table[head.end() :]
    return Markup(f"{table[: head.end()]}{_CELL.sub(with_name, body)}")  # noqa: S704
