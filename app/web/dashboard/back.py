"""Where a form or a login leads when it is done."""

from typing import Annotated

from fastapi import Query
from starlette.datastructures import URL

_LONGEST = 2000

Back = Annotated[str, Query(max_length=_LONGEST)]
"""A path, as the address of a form holds it: anybody may have written it."""


def on_this_site(back: str, otherwise: str = "/") -> str:
    """Return a path of ours to go back to; never another site's."""
    plain = back.startswith("/") and not back.startswith(("//", "/\\")) and "\\" not in back
    return back if plain and back.isprintable() else otherwise


def asked_for(url: URL) -> str:
    """Return the path of a page with its query, or without one that is too long to be taken."""
    whole = f"{url.path}?{url.query}" if url.query else url.path
    return whole if len(whole) <= _LONGEST else url.path
