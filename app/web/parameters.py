"""Query parameters that a call does not know are refused, as unknown fields of bodies are."""

from collections.abc import Sequence

from fastapi import Request

from app.domain.problems import FieldError, Invalid
from app.domain.wording import listed

PREFIX = "/v1"
"""What the paths of all calls begin with."""

_ALIKE = {"HEAD": "GET"}
"""Methods that are described as another one."""

_NAMED = 20
"""Unknown parameters that a problem names at most."""


async def require_known(request: Request) -> None:
    """Refuse a request with query parameters that its call does not have.

    Raises:
        Invalid: Each of them at its place, with those that there are.
    """
    if not request.query_params:
        return
    known = _described(request)
    if known is None:
        return
    there_are = f"there are {listed(known, len(known))}" if known else "the call has none"
    errors = [
        FieldError(pointer=f"#/query/{name[:100]}", detail=f"is no parameter here: {there_are}")
        for name in dict.fromkeys(request.query_params.keys())
        if name not in known
    ]
    if errors:
        first = next(name for name in request.query_params if name not in known)
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise Invalid(f"'{first[:100]}' {errors[0].detail}{more}.", errors=errors[:_NAMED])


def _described(request: Request) -> Sequence[str] | None:
    """Return the query parameters of a call by its description; None where it has none."""
    described = request.app.openapi()["paths"]
    path = described.get(f"{PREFIX}{request.scope['route'].path_format}", {})
    method = _ALIKE.get(request.method, request.method).lower()
    if method not in path:
        return None
    return [each["name"] for each in path[method].get("parameters", []) if each["in"] == "query"]
