"""Make the types of the client's answers of the service's own models.

``python -m scripts.client_types`` writes ``planish/_answered.py`` anew from the API's OpenAPI
document, which FastAPI makes of ``app/domain``. The client is more patient than the service: it
ignores unknown fields, and takes words that a newer service may have more of as plain text.
"""

import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from app.main import create_app
from app.settings import Settings

TARGET = Path(__file__).parents[1] / "planish" / "_answered.py"

NAMES = {
    name: name
    for name in (
        "FieldError", "Conversion", "Model", "Targets", "Dataset", "Quality", "Worst", "Fidelity",
        "Measures", "Artifact", "Usage", "SearchPoint", "FrontPoint", "Front", "TrialCounts",
        "SearchState", "Job", "Plan", "Webhook", "Attempt", "Delivery", "UsageDay",
        "Recommendation", "Upload", "Part", "Parts", "Spread", "Comparison", "RunInput", "TimedRun",
        "TimedFile", "Task", "Claimed", "Measurement",
    )
} | {
    "ProblemDetails": "Problem",
    "TensorSpec": "Tensor",
    "Expected": "Estimate",
    "TenantDevice": "Device",
    "RegisteredDevice": "RegisteredDevice",
}  # fmt: skip
"""The schemas that are classes of the client, and their names there; others are dictionaries."""

_EXTENDED = {"FrontPoint": "SearchPoint", "RegisteredDevice": "TenantDevice"}
"""Classes that have all fields of another one, which the document does not tell."""
_CLOSED = {"status"}
"""Fields whose words are all in the contract; others may get more."""
_PLAIN = {"null": "None", "string": "str", "integer": "int", "number": "float", "boolean": "bool"}
_FORMATS = {"date-time": "datetime", "date": "date"}
_HEAD = '''# Made by scripts/client_types.py of app/domain: change that, and run it again.
"""The service's answers, field by field.

Sizes are bytes, latencies milliseconds, times are in UTC. A field that a newer service adds is
ignored, so that an older client goes on working.
"""

from datetime import date, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class Answer(BaseModel):
    """What all answers have in common."""

    model_config = ConfigDict(frozen=True, extra="ignore")
'''

Schema = dict[str, Any]


def text() -> str:
    """Return the module, formatted."""
    schemas: dict[str, Schema] = create_app(Settings()).openapi()["components"]["schemas"]
    for name, base in _EXTENDED.items():
        for field in schemas[base]["properties"]:
            del schemas[name]["properties"][field]
    classes = [_class(NAMES[name], schemas[name]) for name in _in_order(schemas)]
    return _formatted("\n\n".join([_HEAD, *classes]))


def _in_order(schemas: dict[str, Schema]) -> list[str]:
    """Return the names of the schemas, each after those that it refers to."""
    ordered: list[str] = []

    def add(name: str) -> None:
        if name in NAMES and name not in ordered:
            for other in re.findall(r"#/components/schemas/(\w+)", str(schemas[name])):
                add(other)
            ordered.append(name)

    for name in NAMES:
        add(name)
    return ordered


def _class(name: str, schema: Schema) -> str:
    lines = [
        f"class {name}({NAMES.get(_EXTENDED.get(name, ''), 'Answer')}):",
        _docstring(schema["description"]),
        "",
    ]
    if schema.get("additionalProperties"):
        lines += ['    model_config = ConfigDict(frozen=True, extra="allow")', ""]
    for field, described in schema["properties"].items():
        lines.append(f"    {field}: {_type(field, described)}{_default(described)}")
        if "description" in described:
            lines.append(_docstring(described["description"]))
    return "\n".join(lines) + "\n"


def _type(field: str, schema: Schema) -> str:
    if "$ref" in schema:
        return NAMES.get(schema["$ref"].rpartition("/")[2], "dict[str, Any]")
    if "anyOf" in schema:
        return " | ".join(dict.fromkeys(_type(field, each) for each in schema["anyOf"]))
    if field in _CLOSED and "enum" in schema:
        return "Literal[" + ", ".join(f'"{word}"' for word in schema["enum"]) + "]"
    return _plain_type(field, schema)


def _plain_type(field: str, schema: Schema) -> str:
    kind = schema.get("type", "")
    if kind == "array":
        return f"list[{_type(field, schema['items'])}]"
    if kind == "object":
        values = schema.get("additionalProperties")
        of = _type(field, values) if isinstance(values, dict) else "Any"
        return f"dict[str, {of}]"
    return _FORMATS.get(schema.get("format", "")) or _PLAIN.get(kind, "Any")


def _default(schema: Schema) -> str:
    """Return what a field is in the answer of a service that does not know it yet."""
    if "default" in schema:
        return f" = {schema['default']!r}"
    if any(each.get("type") == "null" for each in schema.get("anyOf", ())):
        return " = None"
    kind = _type("", schema)
    return " = []" if kind.startswith("list") else " = {}" if kind.startswith("dict") else ""


def _docstring(words: str) -> str:
    """Return words as an indented docstring that keeps to the length of lines."""
    plain = re.sub(r"\s+", " ", words.partition("\n\n")[0]).replace("\\", "\\\\")
    wrapped = textwrap.wrap(f'"""{plain}"""', 96)
    if len(wrapped) > 1 and len(wrapped[-1]) == 3:
        wrapped[-2:] = ["".join(wrapped[-2:])]
    return textwrap.indent("\n".join(wrapped), "    ")


def _formatted(source: str) -> str:
    """Format as the repository is; unused imports go."""
    ruff = [sys.executable, "-m", "ruff"]
    for command in (["check", "--select", "F401,I", "--fix-only", "-q"], ["format", "-q"]):
        source = subprocess.run(
            [*ruff, *command, "--stdin-filename", str(TARGET), "-"],
            input=source,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    return source


if __name__ == "__main__":
    TARGET.write_text(text())
