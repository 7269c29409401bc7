"""The API's description as a page: what ``/docs`` shows, without scripts and without internet."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from app.web import pages

Json = dict[str, Any]

_BOUNDS = (
    ("minimum", "at least {:g}"),
    ("exclusiveMinimum", "more than {:g}"),
    ("maximum", "at most {:g}"),
    ("exclusiveMaximum", "less than {:g}"),
    ("minLength", "at least {} characters"),
    ("maxLength", "at most {} characters"),
    ("minItems", "at least {} items"),
    ("maxItems", "at most {} items"),
)


@dataclass(frozen=True)
class Field:
    """A parameter of a call, or a property of a schema."""

    name: str
    place: str
    kind: Markup
    limits: str
    required: bool
    default: Any
    """None where there is none, or where it is null."""
    description: Markup


@dataclass(frozen=True)
class Part:
    """A body, or an answer: its media types with what they hold."""

    name: str
    description: Markup
    holds: list[tuple[str, Markup]]


@dataclass(frozen=True)
class Call:
    """One method of one path."""

    anchor: str
    method: str
    path: str
    description: Markup
    parameters: list[Field]
    body: Part | None
    answers: list[Part]


@dataclass(frozen=True)
class Schema:
    """What is sent or answered, by name."""

    anchor: str
    name: str
    description: Markup
    fields: list[Field]
    kind: Markup | None
    """Of a schema without fields."""


def render(document: Mapping[str, Any]) -> str:
    """Return an OpenAPI document as one page."""
    calls = list(_calls(document["paths"]))
    groups = [
        (tag, [call for name, call in calls if name == tag["name"]]) for tag in document["tags"]
    ]
    return pages.render(
        "reference.html",
        info=document["info"],
        about=_prose(document["info"]["description"]),
        groups=[(tag, found) for tag, found in groups if found],
        schemas=[_schema(*item) for item in sorted(document["components"]["schemas"].items())],
    )


def _calls(paths: Mapping[str, Json]) -> Iterator[tuple[str, Call]]:
    for path, operations in paths.items():
        for method, operation in operations.items():
            body = operation.get("requestBody")
            yield (
                operation["tags"][0],
                Call(
                    operation["operationId"],
                    method.upper(),
                    path,
                    _prose(operation.get("description", operation["summary"])),
                    [_parameter(parameter) for parameter in operation.get("parameters", ())],
                    _part("body", body) if body else None,
                    [_part(status, answer) for status, answer in operation["responses"].items()],
                ),
            )


def _parameter(parameter: Json) -> Field:
    described = {"description": parameter.get("description", ""), **parameter["schema"]}
    required = parameter.get("required", False)
    return _field(parameter["name"], described, required=required, place=parameter["in"])


def _part(name: str, part: Json) -> Part:
    holds = [
        (media, _kind(content.get("schema", {})))
        for media, content in part.get("content", {}).items()
    ]
    return Part(name, _prose(part.get("description", "")), holds)


def _schema(name: str, schema: Json) -> Schema:
    required = schema.get("required", ())
    fields = [
        _field(field, described, required=field in required)
        for field, described in schema.get("properties", {}).items()
    ]
    description = _prose(schema.get("description", ""))
    return Schema(_anchor(name), name, description, fields, None if fields else _kind(schema))


def _field(name: str, schema: Json, *, required: bool, place: str = "") -> Field:
    return Field(
        name,
        place,
        _kind(schema),
        ", ".join(_limits(schema)),
        required,
        schema.get("default"),
        _prose(schema.get("description", "")),
    )


def _limits(schema: Json) -> Iterator[str]:
    for alternative in (schema, *schema.get("anyOf", ())):
        for name, words in _BOUNDS:
            if name in alternative:
                yield words.format(alternative[name])


def _kind(schema: Json) -> Markup:
    """Say in words what a value is; schemas with a name are links."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return Markup('<a href="#{}">{}</a>').format(_anchor(name), name)
    if values := [schema["const"]] if "const" in schema else schema.get("enum"):
        return Markup(", ").join(Markup("<code>{}</code>").format(value) for value in values)
    if union := schema.get("anyOf") or schema.get("oneOf"):
        return Markup(" or ").join(map(_kind, union))
    if schema.get("type") == "array":
        return Markup("list of {}").format(_kind(schema.get("items", {})))
    named = schema.get("additionalProperties")
    if isinstance(named, dict):
        return Markup("names with {} each").format(_kind(named))
    return escape(schema.get("format") or schema.get("type") or "anything")


def _anchor(name: str) -> str:
    return f"schema-{name}"


def _prose(text: str) -> Markup:
    """Return paragraphs, lists and code of the little Markdown that descriptions are written in."""
    safe = re.sub(r"(`+)(.+?)\1", r"<code>\2</code>", str(escape(text)).strip())
    parts = [
        f"<ul><li>{part[2:].replace(chr(10) + '- ', '</li><li>')}</li></ul>"
        if part.startswith("- ")
        else f"<p>{part}</p>"
        for part in re.split(r"\n{2,}", safe)
        if part
    ]
    return Markup("".join(parts))  # noqa: S704 (escaped above)
