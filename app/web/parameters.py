"""Query parameters that a call does not know are refused, as unknown fields of bodies are."""

from fastapi import Request
from fastapi.dependencies.utils import get_flat_params
from fastapi.params import Query
from fastapi.routing import APIRoute

from app.domain.problems import FieldError, Invalid
from app.domain.wording import listed

PREFIX = "/v1"
"""What the paths of all calls begin with."""

_NAMED = 20
"""Unknown parameters that a problem names at most."""


def require_known(request: Request) -> None:
    """Refuse a request with query parameters that its call does not have.

    Raises:
        Invalid: Each of them at its place, with those that there are.
    """
    if not request.query_params:
        return
    known = _parameters(request.scope["route"])
    there_are = f"there are {listed(known, len(known))}" if known else "the call has none"
    unknown = [name for name in dict.fromkeys(request.query_params.keys()) if name not in known]
    if not unknown:
        return
    says = f"is no parameter here: {there_are}"
    more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
    raise Invalid(
        f"'{unknown[0][:100]}' {says}{more}.",
        errors=[
            FieldError(pointer=f"#/query/{name[:100]}", detail=says) for name in unknown[:_NAMED]
        ],
    )


def _parameters(route: APIRoute) -> list[str]:
    """Return the query parameters of a call, and of all that it depends on."""
    fields = get_flat_params(route.dependant)
    return [field.alias for field in fields if isinstance(field.field_info, Query)]
