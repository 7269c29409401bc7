"""Places of a request in words, as forms name them: pages show no JSON pointers."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from app.domain.frozen import words
from app.domain.methods import methods
from app.domain.problems import Problem
from app.web.dashboard.draft import MORE, of_method, of_request
from app.web.dashboard.forms import Field

_TOP = ("objective", "require", "target", *MORE)
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
    "'GET /v1/targets' lists those": "choose among those",
    "'GET /v1/targets' lists": "this page names",
}
"""What the API says in ways of its own."""
_ALSO_OTHERS = {"data", "model", "target"}
"""Names of fields by which sentences call other things: a student's field, an input of a model."""
_UNSEEN = {"objective", "subject_to", "budget", "query", "path"}
"""Parts of a request that no form shows as such."""
_LONGEST = 40
"""Characters of an entry of a list that are shown."""
_TITLES = {method.method: method.title for method in methods()}
_QUOTED = re.compile("|".join((*map(re.escape, _SPOKEN), r"'[a-z_.]+'")))
_STEP = re.compile(r"(?i:\bstep) \d+ \((" + "|".join(_TITLES) + r")\)")


def sentences(fault: Problem, body: Mapping[str, Any] | None = None) -> list[str]:
    """Return what is wrong, in words.

    Args:
        fault: its own words, which are for people unless they begin with a JSON pointer.
        body: the request, whose steps say what their parameters are called.
    """
    errors = fault.details().errors or []
    of_query = any(error.pointer.startswith("#/query/") for error in errors)
    if not (of_query or fault.detail.startswith("#")):
        return [spoken(fault.detail, body)]
    return [
        ": ".join(
            filter(None, (named(error.pointer, body), spoken(error.detail, body, error.pointer)))
        )
        for error in errors
    ]


def faults(
    found: Iterable[tuple[str, str]], body: Mapping[str, Any] | None = None
) -> Mapping[str, str]:
    """Return what is wrong at each place, in words, by its JSON pointer: all of it.

    Args:
        found: pointers, and what is wrong there.
        body: the request, which says what an entry of a list is.
    """
    said: dict[str, list[str]] = {}
    for pointer, detail in found:
        follows_a_name = detail[:1].islower()
        name = _entry(pointer, body) if follows_a_name else ""
        sentence = spoken(detail, body, pointer)
        said.setdefault(pointer, []).append(f"{name} {sentence}" if name else sentence)
    return {pointer: " ".join(dict.fromkeys(details)) for pointer, details in said.items()}


def within(found: Mapping[str, str], pointer: str) -> Mapping[str, str]:
    """Return what is wrong at a place, and with what is within it."""
    return {place: said for place, said in found.items() if (place + "/").startswith(pointer + "/")}


def beside(found: Mapping[str, str], pointer: str, kind: str = "") -> list[str]:
    """Return what is wrong at a field: at its place, and within it.

    Args:
        found: what is wrong, by the JSON pointers of its places.
        pointer: the field's.
        kind: of the field; entries of a list say themselves which they are.
    """
    entries = kind in {"lines", "wholes"}
    return [
        said if place == pointer or entries else f"{named('#' + place[len(pointer) :])}: {said}"
        for place, said in within(found, pointer).items()
    ]


def spoken(sentence: str, body: Mapping[str, Any] | None = None, pointer: str = "#") -> str:
    """Return a sentence that names methods and fields as the API does, with the names on forms.

    Args:
        sentence: what the API says.
        body: the request, whose steps say which parameters the sentence may name.
        pointer: the place that it speaks of; of one in a step, that step's parameters are meant.
    """
    parameters = _parameters(body or {}, _parts(pointer))

    def shown(quoted: re.Match[str]) -> str:
        name = quoted[0].strip("'")
        title = _titled(name, parameters)
        return _SPOKEN.get(quoted[0]) or (f"“{title}”" if title else quoted[0])

    said = _QUOTED.sub(shown, sentence)
    return _STEP.sub(lambda step: step[0].replace(f"({step[1]})", f"({_TITLES[step[1]]})"), said)


def named(pointer: str, body: Mapping[str, Any] | None = None) -> str:
    """Return the place of a JSON pointer in words, such as ``Step 1, Share to remove``.

    Args:
        pointer: into the body; ``#`` is the whole, which has no name.
        body: as with ``sentences``.
    """
    *path, last = [*_walked(_parts(pointer), body or {})] or [""]
    return ", ".join([*path, _entry(pointer, body) or last])


def _parts(pointer: str) -> list[str]:
    return pointer.removeprefix("#").split("/")[1:]


def _entry(pointer: str, body: Mapping[str, Any] | None) -> str:
    """Return an entry of a list as it was typed; nothing where a pointer is to something else."""
    parts = _parts(pointer)
    value: Any = body
    if not (parts and parts[-1].isdecimal()):
        return ""
    for part in parts:
        value = _inside(value, part)
    if not isinstance(value, str | int):
        return ""
    text = str(value)
    return f"“{text if len(text) <= _LONGEST else text[:_LONGEST] + '…'}”"


def _inside(value: Any, part: str) -> Any:
    """Return what a part of a JSON pointer leads to; None where there is nothing."""
    if isinstance(value, list):
        return value[int(part)] if part.isdecimal() and int(part) < len(value) else None
    return value.get(part) if isinstance(value, Mapping) else None


def _titled(path: str, parameters: Mapping[str, Field]) -> str | None:
    """Return the title of a method, or of a field of a form; None where it may be neither."""
    first = path.partition(".")[0]
    if path in _ALSO_OTHERS or first in _UNSEEN:
        return None
    known = parameters if first in parameters else of_request(_TOP)
    title = _TITLES.get(path) or _CALLED.get(path)
    for part in path.split("."):
        field = known.get(part)
        title = field.title if field else title
        known = field.parts if field else {}
    return title


def _parameters(body: Mapping[str, Any], place: list[str]) -> Mapping[str, Field]:
    """Return the parameters that a sentence on a place may name.

    Of a place in no step, they are those that every step calls by the same title.
    """
    steps = body.get("steps") or []
    if place[:1] == ["steps"] and len(place) > 1:
        steps = steps[int(place[1]) :][:1]
    found = [field for step in steps for field in of_method(step["method"]).values()]
    titles: dict[str, set[str]] = {}
    for field in found:
        titles.setdefault(field.name, set()).add(field.title)
    return {field.name: field for field in found if len(titles[field.name]) == 1}


def _walked(parts: list[str], body: Mapping[str, Any]) -> Iterator[str]:
    known: Mapping[str, Field] = of_request(_TOP)
    if parts[:1] == ["steps"] and len(parts) > 1:
        index = int(parts[1])
        yield f"Step {index + 1}"
        known = of_method(body["steps"][index]["method"]) if body else {}
        parts = parts[2:]
    for part in parts:
        field = known.get(part)
        if part in _UNSEEN:
            pass
        elif field is not None:
            yield field.title
        else:
            yield str(int(part) + 1) if part.isdecimal() else _CALLED.get(part) or words(part)
        known = field.parts if field else {}
