"""Descriptions of the methods, for the API."""

import inspect
from functools import lru_cache
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from app.domain.steps import METHODS, Needs, Step


class Method(BaseModel):
    """A step that requests may name."""

    model_config = ConfigDict(serialize_by_alias=True, validate_by_name=True)

    method: str
    title: str
    description: str
    json_schema: dict[str, Any] = Field(
        alias="schema", description="JSON Schema of the parameters, each with its default."
    )
    needs: Needs
    provides: list[str]


@lru_cache
def methods() -> tuple[Method, ...]:
    """Describe every method with the JSON Schema of its parameters."""
    return tuple(_describe(step) for step in METHODS)


def _describe(step: type[Step]) -> Method:
    schema = step.model_json_schema()
    schema["required"] = ["method"]
    method = step.model_fields["method"].default
    return Method(
        method=method,
        title=step.title,
        description=inspect.cleandoc(step.__doc__ or ""),
        json_schema=schema,
        needs=step(method=method).needs,
        provides=list(step.provides),
    )
