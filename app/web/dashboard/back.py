"""Where a form or a login leads when it is done."""

from typing import Annotated

from fastapi import Query

Back = Annotated[str, Query(max_length=500)]
"""A path, as the address of a form holds it: anybody may have written it."""


def own(back: str, otherwise: str = "/") -> str:
    """Return a path of ours to go back to; never another site's."""
    plain = back.startswith("/") and not back.startswith(("//", "/\\")) and "\\" not in back
    return back if plain and back.isprintable() else otherwise
