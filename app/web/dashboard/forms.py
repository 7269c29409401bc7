"""Forms of steps, made from the methods' JSON Schemas; nobody writes a field twice."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from app.domain.methods import Method

Kind = Literal["choice", "flag", "number", "whole", "lines", "text", "json"]

_PLAIN = {"boolean": "flag", "integer": "whole", "number": "number", "string": "text"}
_FIRST: Mapping[str, tuple[str, ...]] = {
    "prune": ("granularity", "ratio", "of", "sparsity", "criterion"),
    "quantize": ("mode", "weights", "activations", "ranges"),
    "distill": ("student", "losses"),
    "low_rank": ("decomposition", "ratio", "of"),
    "cluster": ("clusters",),
    "subnet": ("ratio", "of"),
    "supernet": ("ignore",),
}
"""What a person decides first; the rest is folded away."""
_FOLDED_JSON = {"recover"}


_READ: dict[Kind, Callable[[str], Any]] = {
    "choice": str,
    "text": str,
    "flag": lambda text: {"yes": True, "no": False}.get(text, text),
    "whole": int,
    "number": float,
    "json": json.loads,
    "lines": lambda text: [line.strip() for line in text.splitlines() if line.strip()],
}


@dataclass(frozen=True)
class Field:
    """One parameter of a method, as a form shows it."""

    name: str
    kind: Kind
    description: str
    default: str
    choices: list[str]
    least: str
    most: str
    advanced: bool

    def value(self, text: str) -> Any:
        """Return what a person typed as the parameter's value; text that does not fit stays text.

        Whoever checks the request then says what is wrong with it.
        """
        try:
            return _READ[self.kind](text)
        except ValueError:
            return text


def fields(method: Method) -> list[Field]:
    """Return the parameters of a method, those that a person decides first at the top."""
    schema = method.json_schema
    found = [
        _field(method.method, name, about, schema.get("$defs", {}))
        for name, about in schema["properties"].items()
        if name != "method"
    ]
    first = _FIRST.get(method.method, ())
    return sorted(found, key=lambda field: first.index(field.name) if field.name in first else 99)


def _field(method: str, name: str, about: Mapping[str, Any], parts: Mapping[str, Any]) -> Field:
    kinds = list(_kinds(about, parts))
    choices = [str(value) for kind in kinds for value in kind.get("enum", [])]
    choices += [str(kind["const"]) for kind in kinds if "const" in kind]
    bounds = next((kind for kind in kinds if kind.get("type") in {"integer", "number"}), {})
    return Field(
        name=name,
        kind=_kind(kinds, choices),
        description=str(about.get("description", "")),
        default=_spoken(about.get("default")),
        choices=choices,
        least=str(bounds.get("minimum", bounds.get("exclusiveMinimum", ""))),
        most=str(bounds.get("maximum", bounds.get("exclusiveMaximum", ""))),
        advanced=name not in _FIRST.get(method, ()) or name in _FOLDED_JSON,
    )


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


def _kind(kinds: list[Mapping[str, Any]], choices: list[str]) -> Kind:
    types = {str(kind.get("type", "string")) for kind in kinds}
    if choices and types <= {"string"}:
        return "choice"
    if types == {"array"} and kinds[0].get("items", {}).get("type") == "string":
        return "lines"
    if len(types) == 1 and (plain := _PLAIN.get(next(iter(types)))) is not None:
        return plain  # type: ignore[return-value]
    return "json"


def _spoken(default: Any) -> str:
    if default is None:
        return ""
    if isinstance(default, bool):
        return "yes" if default else "no"
    return default if isinstance(default, str) else json.dumps(default)
