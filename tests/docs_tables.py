"""The tables in ``docs/`` that come from the code: ``python -m tests.docs_tables`` writes them.

A table stands between ``<!-- table: NAME -->`` and ``<!-- end -->``.
"""

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from app.domain import events, problems
from app.domain.criteria import CRITERIA, Granularity
from app.domain.metrics import METRICS, more_is_better
from app.domain.steps import METHODS
from app.domain.webhooks import EVENTS, TEST_EVENT
from app.main import create_app
from app.settings import Settings

DOCS = Path(__file__).parent.parent / "docs"

_BLOCK = re.compile(r"(<!-- table: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
_UNITS = {1024**3: "GiB", 1024**2: "MiB"}

Rows = Iterator[tuple[str, ...]]


def settings() -> Rows:
    """Every environment variable."""
    yield ("variable", "default", "what it sets")
    for group, field in Settings.model_fields.items():
        kind = field.annotation
        assert isinstance(kind, type)
        assert issubclass(kind, BaseModel)
        for name, setting in kind.model_fields.items():
            variable = f"{group}_{name}".upper()
            yield (f"`{variable}`", _default(setting.default), _line(setting.description))


def problem_types() -> Rows:
    """Every ``type`` that a problem may have."""
    yield ("`type`", "status", "when")
    for kind in problems.kinds():
        yield (f"`{kind.type}`", str(kind.status), _line(inspect.getdoc(kind)))


def job_events() -> Rows:
    """Every kind of event in a job's stream."""
    yield ("`event`", "`data`", "what it says")
    for kind in (events.State, events.Progress, events.MetricValue, events.Log):
        name = kind.model_fields["kind"].default
        fields = ", ".join(f"`{field}`" for field in kind.model_fields if field != "kind")
        yield (f"`{name}`", f"{fields}, `at`", _line(inspect.getdoc(kind)))


def webhook_events() -> Rows:
    """Every event that a webhook may tell of."""
    yield ("`type`", "when")
    when = {
        "job.started": "a job ran for the first time",
        "model.ready": "a model was inspected and can be used",
        "model.rejected": "a model was inspected and cannot be used",
        "search.improved": "a search has a new best point",
    }
    for event in EVENTS:
        yield (f"`{event}`", when.get(event, f"a job ended as `{event.removeprefix('job.')}`"))
    yield (f"`{TEST_EVENT}`", "on request: `POST /v1/webhooks/{id}/test`")


def routes() -> Rows:
    """Every route, from the OpenAPI document."""
    yield ("call", "what it does")
    for path, calls in create_app(Settings()).openapi()["paths"].items():
        for method, call in calls.items():
            yield (f"`{method.upper()} {path}`", _line(call.get("description", call["summary"])))


def steps() -> Rows:
    """Every parameter of every method, from its JSON Schema."""
    yield ("method", "parameter", "default", "values", "what it sets")
    for method in METHODS:
        properties = method.model_json_schema()["properties"]
        name = properties.pop("method")["const"]
        for parameter, schema in properties.items():
            yield (
                f"`{name}`",
                f"`{parameter}`",
                _default(schema["default"]),
                _values(schema),
                _line(schema.get("description")),
            )


def metrics() -> Rows:
    """Every metric, what it needs and how a drop of it is counted."""
    yield ("`metric`", "what it is", "better", "a drop is", "targets", "parameters")
    kept = {
        "classes": "integer classes",
        "sequences": "integer classes `[samples, length]`, padded with -1",
        "numbers": "numbers",
        "vectors": "two or more numbers a sample",
    }
    for name, row in METRICS.items():
        yield (
            f"`{name}`",
            _line(row.meaning),
            "more" if more_is_better(row.kind) else "less",
            "relative" if row.kind == "error" else "absolute",
            kept[row.targets],
            ", ".join(f"`{parameter}`" for parameter in sorted(row.parameters)),
        )


def criteria() -> Rows:
    """Every criterion of pruning, what it looks at and what it compares."""
    yield ("`criterion`", "what tells how much something contributes", "looks at", "compares")
    for name, row in CRITERIA.items():
        compares = ", ".join(
            f"`{each}`" for each in get_args(Granularity) if each in row.granularities
        )
        yield (f"`{name}`", row.meaning, row.source, compares)


TABLES: dict[str, Callable[[], Rows]] = {
    table.__name__: table
    for table in (
        settings,
        problem_types,
        job_events,
        webhook_events,
        routes,
        steps,
        metrics,
        criteria,
    )
}


def rendered(text: str) -> str:
    """Return a page with its tables as the code has them."""

    def table(found: re.Match[str]) -> str:
        head, *rows = TABLES[found[2]]()
        lines = [head, tuple("---" for _ in head), *rows]
        body = "".join(f"| {' | '.join(line)} |\n" for line in lines)
        return f"{found[1]}{body}{found[4]}"

    return _BLOCK.sub(table, text)


def _line(text: str | None) -> str:
    """Return the first paragraph as the cell of a table."""
    first = (text or "").split("\n\n")[0]
    return " ".join(first.split()).replace("``", "`").replace("|", "\\|")


def _default(value: Any) -> str:
    if value is None or value in ("", [], ()):
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        for size, unit in _UNITS.items():
            if value and value % size == 0:
                return f"`{value}` ({value // size} {unit})"
    if isinstance(value, list):
        return ", ".join(f"`{item}`" for item in value)
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _values(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "items" in schema:
        return f"list of {_kinds(schema['items'], plural='s')}"
    bounds = (
        ("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"),
    )  # fmt: skip
    said = [
        f"{sign} {each[bound]:g}"
        for each in _variants(schema)
        for bound, sign in bounds
        if bound in each
    ]
    return " ".join([_kinds(schema), ", ".join(said)]).strip()


def _kinds(schema: dict[str, Any], plural: str = "") -> str:
    """Return the types of a schema, such as ``number``, or the names of what it refers to."""
    found = []
    for each in _variants(schema):
        if "$ref" in each:
            found.append(f"`{each['$ref'].rpartition('/')[2]}`")
        elif "enum" in each or "const" in each:
            found += [f"`{value}`" for value in each.get("enum", [each.get("const")])]
        elif each.get("type") != "null":
            found.append(each["type"] + plural)
    return " or ".join(found)


def _variants(schema: dict[str, Any]) -> list[dict[str, Any]]:
    variants: list[dict[str, Any]] = schema.get("anyOf") or schema.get("oneOf") or [schema]
    return variants


if __name__ == "__main__":
    for page in DOCS.rglob("*.md"):
        page.write_text(rendered(page.read_text()))
