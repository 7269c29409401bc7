"""The API's description: common answers, tags and examples that FastAPI cannot derive."""

import json
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.domain.problems import (
    Forbidden,
    Invalid,
    MalformedRequest,
    ProblemDetails,
    Refused,
    TooLarge,
    Unauthenticated,
    Unavailable,
    kinds,
)
from app.domain.references import DatasetReference, ModelReference
from app.web.problems import MEDIA_TYPE, documented

COMMON: tuple[type[Refused] | type[Unavailable], ...] = (
    MalformedRequest,
    Unauthenticated,
    Forbidden,
    TooLarge,
    Invalid,
    Unavailable,
)
"""What every call under ``/v1`` may answer."""

DESCRIPTION = """
Upload a model, ask for compression steps, download a smaller and faster model with a report.

Lists are read with `limit` and `cursor`. Every POST takes an `Idempotency-Key`.
Errors are RFC 9457 problems (`application/problem+json`), and so is the `problem` of a rejected
upload or a failed job. Their types:

"""

TAGS = [
    {"name": "models", "description": "The networks to compress."},
    {"name": "datasets", "description": "Data to calibrate, train and measure with."},
    {"name": "uploads", "description": "Bytes that come in several requests (tus 1.0)."},
    {"name": "jobs", "description": "What is done to a model."},
    {"name": "artifacts", "description": "What comes out."},
    {"name": "webhooks", "description": "Who is told."},
    {"name": "devices", "description": "Boards and phones that time files."},
    {"name": "usage", "description": "What was used, day by day."},
    {"name": "catalog", "description": "What can be asked for."},
    {"name": "operations", "description": "For those who run the service; no key is needed."},
]


def install(app: FastAPI) -> None:
    """Make ``app`` describe itself completely."""

    def describe() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _described(app)
        return app.openapi_schema

    app.openapi = describe  # type: ignore[method-assign]


def _described(app: FastAPI) -> dict[str, Any]:
    schema = get_openapi(
        title=app.title,
        version=app.version,
        description=DESCRIPTION + _problem_types(),
        routes=app.routes,
        tags=TAGS,
    )
    schemas = schema["components"]["schemas"]
    template = "#/components/schemas/{model}"
    for kind in (ProblemDetails, ModelReference, DatasetReference):
        described_apart = kind.model_json_schema(ref_template=template)
        schemas |= described_apart.pop("$defs", {})
        schemas[kind.__name__] = described_apart
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for described in schemas.values():
        _say_objects_in_words(described)
        _title_fields_by_name(described)
    for path, operations in schema["paths"].items():
        if path.startswith("/v1/"):
            for operation in operations.values():
                _add_common(operation)
    return schema


def _say_objects_in_words(described: dict[str, Any]) -> None:
    """Move defaults that are objects into descriptions: generators of clients cannot write them."""
    for field in described.get("properties", {}).values():
        if isinstance(field.get("default"), dict):
            default = json.dumps(field.pop("default"))
            field["description"] = f"{field.get('description', '')} Default: `{default}`.".strip()


def _title_fields_by_name(described: dict[str, Any]) -> None:
    """Title fields by their names: generators of clients name classes after titles.

    The titles that forms show are in the schemas of ``GET /v1/methods``.
    """
    for name, field in described.get("properties", {}).items():
        if "$ref" in field:
            field.pop("title", None)
        elif "title" in field:
            field["title"] = name.title().replace("_", " ")


def _problem_types() -> str:
    lines = (
        f"- `{kind.type}` ({kind.status}): {' '.join((kind.__doc__ or '').split())}"
        for kind in kinds()
    )
    return "\n".join(lines)


def _add_common(operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    for status, response in documented(*COMMON).items():
        own = responses.get(str(status))
        if own is None or MEDIA_TYPE not in own["content"]:
            responses[str(status)] = response
        elif response["description"] not in own["description"]:
            own["description"] = f"{response['description']}\n\n{own['description']}"
    operation["responses"] = dict(sorted(responses.items()))
