"""Environment variables that look like settings and are none, as misspelt ones are."""

from collections.abc import Mapping
from difflib import get_close_matches

from app.domain.wording import listed
from app.settings import Settings

_NAMED = 10
"""Variables that are named at most."""
_NEAR = 0.8
"""How much of a name has to be a setting's, from 0 to 1, for that one to be meant."""


def unknown(environment: Mapping[str, str]) -> str:
    """Name the variables that begin as settings do and are none, in words; empty for none.

    Programs beside the service may have variables of such names too: nothing ends by them.
    """
    begin, known = [], []
    for group, field in Settings.model_fields.items():
        begin.append(f"{group}_".upper())
        known += [f"{group}_{name}".upper() for name in type(field.default).model_fields]
    found = sorted(
        name
        for name in environment
        if name.upper().startswith(tuple(begin)) and name.upper() not in known
    )
    return listed([_with_nearest(name, known) for name in found], _NAMED)


def _with_nearest(name: str, known: list[str]) -> str:
    nearest = get_close_matches(name.upper(), known, 1, _NEAR)
    return f"{name} (nearest: {nearest[0]})" if nearest else name
