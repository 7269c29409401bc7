"""Places of a request in words, as forms name them: pages show no JSON pointers."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from app.domain.frozen import words
from app.domain.problems import Problem
from app.web.dashboard.draft import MORE, of_method, of_request
from app.web.dashboard.forms import Field

_TOP = ("require", "target", *MORE)
_CALLED = {
    "data": "Data",
    "dataset": "Data",
    "max_quality_drop": "Quality may drop by",
    "minimize": "Make less of",
    "model": "Model",
    "steps": "Steps",
    "sha256": "SHA-256",
    "url": "Address",
}
"""Fields that are not called by their names, where no schema has a title that a form shows."""
_SPOKEN = {
    "'data': 'generated'": "“made from the model”",
    "'GET /v1/targets' lists": "this page names",
}
"""What the API says in ways of its own."""
_ALSO_OTHERS = {"data", "model", "target"}
"""Names of fields by which sentences call other things: a student's field, an input of a model."""
_QUOTED = re.compile("|".join((*map(re.escape, _SPOKEN), r"'[a-z_.]+'")))
_UNSEEN = {"objective", "subject_to", "budget", "query", "path"}
"""Parts of a request that no form shows as such."""


def sentences(fault: Problem, body: Mapping[str, Any] | None = None) -> list[str]:
    """Return what is wrong, in words.

    Args:
        fault: its own words, which are for people unless they begin with a JSON pointer.
        body: the request, whose steps say what their parameters are called.
    """
    errors = fault.details().errors or []
    of_query = any(error.pointer.startswith("#/query/") for error in errors)
    if not (of_query or fault.detail.startswith("#")):
        return [spoken(fault.detail)]
    return [
        ": ".join(filter(None, (named(error.pointer, body), spoken(error.detail))))
        for error in errors
    ]


def faults(found: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """Return what is wrong at each place, in words, by its JSON pointer: all of it.

    Args:
        found: pointers, and what is wrong there.
    """
    said: dict[str, list[str]] = {}
    for pointer, detail in found:
        said.setdefault(pointer, []).append(spoken(detail))
    return {pointer: " ".join(dict.fromkeys(details)) for pointer, details in said.items()}


def spoken(sentence: str) -> str:
    """Return a sentence that names fields as the API does, with the names that forms show.

    Parameters of steps keep their names, which forms show beside the titles.
    """
    return _QUOTED.sub(
        lambda quoted: _SPOKEN.get(quoted[0]) or _titled(quoted[0].strip("'")) or quoted[0],
        sentence,
    )


def named(pointer: str, body: Mapping[str, Any] | None = None) -> str:
    """Return the place of a JSON pointer in words, such as ``Step 1, Share to remove``.

    Args:
        pointer: into the body; ``#`` is the whole, which has no name.
        body: as with ``sentences``.
    """
    return ", ".join(_walked(pointer.removeprefix("#").split("/")[1:], body or {}))


def _titled(path: str) -> str | None:
    """Return the title of a field of a request in quotes; None where it may be none."""
    if path in _ALSO_OTHERS:
        return None
    known: Mapping[str, Field] = of_request(_TOP)
    title = _CALLED.get(path)
    for part in path.split("."):
        field = known.get(part)
        title = field.title if field else title
        known = field.parts if field else {}
    return f"“{title}”" if title else None


def _walked(parts: list[str], body: Mapping[str, Any]) -> Iterator[str]:
    known: Mapping[str, Field] = of_request(_TOP)
    if parts[:1] == ["steps"] and len(parts) > 1:
        index = int(parts[1])
        yield f"Step {index + 1}"
        known = of_method(body["steps"][index]["method"]) if body else {}
        parts = parts[2:]
    for part in parts:
        field = known.get(part)
        if field is not None:
            yield field.title
        elif part not in _UNSEEN:
            yield str(int(part) + 1) if part.isdecimal() else _CALLED.get(part) or words(part)
        known = field.parts if field else {}
