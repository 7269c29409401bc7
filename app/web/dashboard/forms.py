"""Fields of forms, made from the JSON Schemas of methods and requests; none is written twice."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from app.domain.frozen import words
from app.domain.jobs import JobRequest
from app.domain.methods import Method
from app.domain.percentages import share

Kind = Literal[
    "choice",
    "flag",
    "number",
    "whole",
    "wholes",
    "lines",
    "text",
    "model",
    "dataset",
    "group",
    "rows",
]
"""What a person types: a choice, a number, some whole numbers (``wholes``), text; one of their
models or datasets; or fields within the field, as an object (``group``) or a list of objects
(``rows``) has them.
"""

_UPLOADS: Mapping[str, Kind] = {"model": "model", "dataset": "dataset"}
"""By what a schema says that a text names."""

_PLAIN: Mapping[str, Kind] = {
    "boolean": "flag",
    "integer": "whole",
    "number": "number",
    "string": "text",
}
_LISTED: Mapping[str, Kind] = {"integer": "wholes", "string": "lines"}
_FIRST: Mapping[str, tuple[str, ...]] = {
    "prune": ("granularity", "ratio", "of", "sparsity", "criterion", "recover"),
    "quantize": ("mode", "weights", "activations", "ranges"),
    "distill": ("student", "recover"),
    "low_rank": ("decomposition", "ratio", "of", "recover"),
    "cluster": ("clusters",),
    "subnet": ("ratio", "of"),
    "supernet": ("recover",),
}
"""What a person decides first; the rest is folded away."""


def _whole(text: str) -> int | str:
    """Return the number that was typed; what is none stays text, and is refused at its place."""
    try:
        return int(text)
    except ValueError:
        return text


def _number(text: str) -> float:
    """Return the number, or the share, that was typed.

    Raises:
        ValueError: It is none.
    """
    return int(text) if text.isdecimal() else share(text)


_READ: dict[Kind, Callable[[str], Any]] = {
    "choice": str,
    "text": str,
    "model": str,
    "dataset": str,
    "group": str,
    "rows": str,
    "flag": lambda text: {"yes": True, "no": False}.get(text, text),
    "whole": int,
    "number": _number,
    "wholes": lambda text: [*map(_whole, text.replace(",", " ").split())],
    "lines": lambda text: [line.strip() for line in text.splitlines() if line.strip()],
}

_WRITTEN: dict[Kind, Callable[[Any], str]] = {
    "group": lambda _: "yes",
    "rows": lambda _: "",
    "flag": lambda value: "yes" if value else "no",
    "wholes": lambda value: ", ".join(map(str, value)),
    "lines": "\n".join,
}


@dataclass(frozen=True)
class Field:
    """One parameter of a method, or part of a request, as a form shows it."""

    name: str
    title: str
    kind: Kind
    description: str
    default: str
    choices: list[str]
    """What may be chosen; of a text or an upload, what is offered beside others."""
    bounds: str
    """In a sentence, between which numbers a value lies; else empty."""
    advanced: bool
    parts: Mapping[str, "Field"] = field(default_factory=dict)
    """The fields within it, by their names: of a group, of each row, or in place of a choice."""

    def value(self, text: str) -> Any:
        """Return what a person typed as the parameter's value; text that does not fit stays text.

        Whoever checks the request then says what is wrong with it.
        """
        try:
            return _READ[self.kind](text)
        except ValueError:
            return text

    def text(self, value: Any) -> str:
        """Return a value of the parameter as a person would type it: what ``value`` reads back."""
        return _written(self.kind, value)


def fields(method: Method) -> list[Field]:
    """Return the parameters of a method, those that a person decides first at the top."""
    schema = method.json_schema
    first = _FIRST.get(method.method, ())
    found = [
        _field(name, about, schema.get("$defs", {}), advanced=name not in first)
        for name, about in schema["properties"].items()
        if name != "method"
    ]
    return sorted(found, key=lambda field: first.index(field.name) if field.name in first else 99)


def parts_of_request(names: Iterable[str]) -> list[Field]:
    """Return some fields of a job's request, in this order."""
    schema = JobRequest.model_json_schema()
    return [
        _field(name, schema["properties"][name], schema["$defs"], advanced=True) for name in names
    ]


def _field(
    name: str, about: Mapping[str, Any], parts: Mapping[str, Any], *, advanced: bool
) -> Field:
    kinds = list(_kinds(about, parts))
    default = about.get("default")
    choices = [
        str(value)
        for kind in (*kinds, *(kind.get("items", {}) for kind in kinds))
        for value in (*kind.get("enum", ()), *([kind["const"]] if "const" in kind else ()))
    ]
    bounds = next((kind for kind in kinds if kind.get("type") in {"integer", "number"}), {})
    kind = _kind(kinds, choices, parts)
    described = (each["description"] for each in (about, *kinds) if "description" in each)
    return Field(
        name=name,
        title=about.get("title") or words(name),
        kind=kind,
        description=str(next(described, "")),
        default=_written(kind, default),
        choices=choices,
        bounds=_bounded(bounds),
        advanced=advanced,
        parts={
            part: _field(part, about_part, parts, advanced=True)
            for part, about_part in _inside(kinds, default, rows=kind == "rows").items()
        },
    )


def _inside(
    kinds: Iterable[Mapping[str, Any]], default: Any, *, rows: bool
) -> dict[str, Mapping[str, Any]]:
    """Return the schemas of the fields that a value may have, by their names.

    Those of an object have the object's defaults; those of a list are its rows, counted from 0.
    """
    if rows:
        (array,) = kinds
        return {
            str(row): {**array["items"], "title": f"Entry {row + 1}"}
            for row in range(array["maxItems"])
        }
    given = default if isinstance(default, dict) else {}
    return {
        name: {**about, "default": given.get(name, about.get("default"))}
        for kind in kinds
        for name, about in kind.get("properties", {}).items()
    }


def _kinds(about: Mapping[str, Any], parts: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the schemas that a value may fit, null aside."""
    if "$ref" in about:
        yield from _kinds(parts[about["$ref"].split("/")[-1]], parts)
        return
    branches = about.get("anyOf") or about.get("oneOf")
    for each in branches or [about]:
        if branches:
            yield from _kinds(each, parts)
        elif each.get("type") != "null":
            yield each


def _kind(kinds: list[Mapping[str, Any]], choices: list[str], parts: Mapping[str, Any]) -> Kind:
    """Return how a value of one of these schemas is typed.

    Raises:
        TypeError: No kind of field has room for them; a test asks this of all parameters.
    """
    plain = [kind for kind in kinds if "properties" not in kind]
    if not plain:
        return "group"
    named = [_UPLOADS[kind["names"]] for kind in plain if "names" in kind]
    if named:
        return named[0]
    types = {str(kind.get("type", "string")) for kind in plain}
    if types == {"array"}:
        (items,) = _kinds(plain[0]["items"], parts)
        return "rows" if "properties" in items else _LISTED[items.get("type", "string")]
    if choices and types == {"string"}:
        return "choice" if all("enum" in kind or "const" in kind for kind in plain) else "text"
    if len(types) == 1 and (one := _PLAIN.get(next(iter(types)))) is not None:
        return one
    raise TypeError(f"no field of a form has room for {kinds}")


def _bounded(about: Mapping[str, Any]) -> str:
    """Say between which numbers a value of a schema lies; a share may be typed in percent."""
    whole = about.get("type") == "integer"
    least, most = about.get("minimum"), about.get("maximum")
    above, below = about.get("exclusiveMinimum"), about.get("exclusiveMaximum")
    if whole and above is not None:
        least, above = above + 1, None
    if whole and below is not None:
        most, below = below - 1, None
    ends = [
        f"more than {above:g}" if above is not None else "",
        f"less than {below:g}" if below is not None else "",
        f"{least:.12g} or more" if least is not None else "",
        f"{most:.12g} at most" if most is not None else "",
    ]
    if least is not None and most is not None:
        ends[2:] = [f"{least:.12g} to {most:.12g}"]
    said = ", ".join(filter(None, ends))
    upper = most if below is None else below
    in_percent = " 0.05 and 5 % are the same." if upper == 1 and not whole else ""
    return f"{said[:1].upper()}{said[1:]}.{in_percent}" if said else ""


def _written(kind: Kind, value: Any) -> str:
    """Return a value as a person would type it into a field of this kind."""
    return "" if value is None else _WRITTEN.get(kind, _plainly)(value)


def _plainly(value: Any) -> str:
    """Return a value of one line as text; an object in place of a choice has fields of its own."""
    if isinstance(value, dict):
        return ""
    return value if isinstance(value, str) else json.dumps(value)
