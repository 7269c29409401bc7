"""Everything that can go wrong, in one shape: exceptions to problem+json, and to the API's docs."""

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from sqlalchemy.exc import DataError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from app.domain.fault_words import in_words
from app.domain.problems import (
    FieldError,
    Invalid,
    MalformedRequest,
    MethodNotAllowed,
    NotFound,
    Problem,
    Refused,
    TooLarge,
    Unavailable,
    UnsupportedMedia,
)
from app.web.negotiation import preferred

MEDIA_TYPE = "application/problem+json"

_MAX_ERRORS = 50
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_TAGS = frozenset({"union_tag_invalid", "union_tag_not_found"})
"""Faults of the field that says which form an object has, such as a step's ``method``."""
_PARAMETERS = ("#/query/", "#/path/", "#/header/")
_NO_DEFAULT = "default_factory_not_called"
"""The default of a field is made of other fields, and one of these is wrong, which is said."""
_ABSENT = frozenset({"missing", "union_tag_not_found"})
"""Faults of fields that are not there."""
_BY_STATUS: dict[int, type[Problem]] = {
    400: MalformedRequest,
    404: NotFound,
    405: MethodNotAllowed,
    413: TooLarge,
    415: UnsupportedMedia,
}

log = structlog.get_logger(__name__)


Answers = Callable[[Request, Problem], Response]
"""Tells whoever has sent a request of a problem."""


def answering(page: Callable[[Problem], Response]) -> Answers:
    """Return how problems are answered: a browser that asks for a page gets ``page``."""

    def answer(request: Request, problem: Problem) -> Response:
        return page(problem) if _wants_page(request) else respond(problem)

    return answer


def install(app: FastAPI, answer: Answers) -> None:
    """Make ``app`` answer every exception that it expects with a problem."""

    async def handle(request: Request, error: Exception) -> Response:
        return answer(request, _translate(request, error))

    for exception in (
        Problem,
        RequestValidationError,
        HTTPException,
        DataError,
        OperationalError,
        InterfaceError,
        PoolTimeout,
    ):
        app.add_exception_handler(exception, handle)


def respond(problem: Problem) -> Response:
    """Return a problem as an answer."""
    body = problem.details().model_dump_json()
    return Response(body, problem.status, problem.headers, MEDIA_TYPE)


def documented(*these: type[Problem]) -> dict[int | str, dict[str, Any]]:
    """Return OpenAPI's ``responses`` for the problems that a route may answer with."""
    responses: dict[int | str, dict[str, Any]] = {}
    for kind in sorted(these, key=lambda kind: kind.status):
        said = f"`{kind.type}`: {inspect.cleandoc(kind.__doc__ or '')}"
        earlier = responses.get(kind.status)
        responses[kind.status] = {
            "description": f"{earlier['description']}\n\n{said}" if earlier else said,
            "content": {
                MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}},
            },
        }
    return responses


def _wants_page(request: Request) -> bool:
    """Return whether a person is to read the answer: the API speaks JSON to everybody."""
    accept = request.headers.get("accept", "*/*")
    api = request.url.path.startswith("/v1/")
    return not api and preferred(accept, (MEDIA_TYPE, "text/html")) == "text/html"


def _translate(request: Request, error: Exception) -> Problem:
    if isinstance(error, Problem):
        return error
    if isinstance(error, RequestValidationError):
        return invalid(error)
    if isinstance(error, HTTPException):
        return _plain(request, error)
    if isinstance(error, DataError):
        log.info("text that cannot be stored", error=str(error.orig))
        return Invalid("A text in the request holds a character that is not allowed, like U+0000.")
    log.warning("the database does not answer", error=str(error))
    return Unavailable(
        "The database does not answer; nothing was changed, so try again.",
        headers={"Retry-After": "5"},
    )


def _plain(request: Request, error: HTTPException) -> Problem:
    """Translate what Starlette and FastAPI raise by themselves."""
    kind = _BY_STATUS.get(error.status_code, Refused)
    if kind is MethodNotAllowed:
        allowed = ", ".join(_methods(request))
        return MethodNotAllowed(
            f"{request.url.path} has no {request.method}; it has {allowed}.",
            headers={"Allow": allowed},
        )
    detail = {
        400: "The body could not be read: send JSON in UTF-8 that is not nested too deeply.",
        404: _nothing_at(request.url.path),
    }.get(error.status_code, str(error.detail))
    return kind(detail, headers=dict(error.headers or {}))


def _nothing_at(path: str) -> str:
    if path.endswith("/"):
        return f"There is nothing at {path}: leave out the slash at its end."
    return f"There is nothing at {path}: see /docs for what there is."


def _methods(request: Request) -> list[str]:
    """Return the methods of the request's path; no single route knows them all.

    A path that the description spells out comes before one with a parameter.
    """
    described = request.app.openapi()["paths"].get(request.url.path)
    if described is not None:
        return [method for method in _METHODS if method.lower() in described]
    return [
        method
        for method in _METHODS
        if any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL
            for route in request.app.router.routes
        )
    ]


def invalid(error: RequestValidationError) -> Problem:
    """Return what is wrong with a request, each fault at its place in the body."""
    faults = [fault for fault in error.errors() if fault["type"] != _NO_DEFAULT]
    if any(fault["type"] == "json_invalid" for fault in faults):
        where = faults[0]["loc"][-1]
        reason = faults[0].get("ctx", {}).get("error", "it cannot be parsed")
        return MalformedRequest(f"The body is not valid JSON: {reason} (at character {where}).")
    if isinstance(error.body, bytes) and any(fault["loc"] == ("body",) for fault in faults):
        return UnsupportedMedia("Send JSON with 'Content-Type: application/json'.")
    errors = [
        FieldError(
            pointer=pointer(_place(fault), error.body, fault["type"]), detail=in_words(fault)
        )
        for fault in faults[:_MAX_ERRORS]
    ]
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return Invalid(f"{_called(errors[0].pointer)} {errors[0].detail}{more}", errors=errors)


def _called(pointer: str) -> str:
    """Return what begins a sentence on the value at a pointer: a parameter by its name."""
    _, _, name = pointer.rpartition("/")
    return f"'{name}'" if pointer.startswith(_PARAMETERS) else f"{pointer}:"


def unfit(error: ValidationError, body: Any) -> Problem:
    """Return what is wrong with a body that we read ourselves, as if FastAPI had read it."""
    placed = [{**fault, "loc": ("body", *fault["loc"])} for fault in error.errors()]
    return invalid(RequestValidationError(placed, body=body))


def _place(fault: dict[str, Any]) -> list[str | int]:
    """Return where a fault is; of a field that says which form its object has, at that field."""
    place = list(fault["loc"])
    if fault["type"] in _TAGS:
        place.append(fault["ctx"]["discriminator"].strip("'"))
    return place


def pointer(location: Sequence[str | int], body: Any, kind: str) -> str:
    """Turn pydantic's location into a JSON pointer in fragment form.

    Pydantic names the branches of unions along the way; those are not in the body, so the path is
    walked along the body as it was sent. Parameters are at ``#/query/…``, ``#/path/…`` and
    ``#/header/…``.
    """
    place, *parts = location
    if place != "body":
        return _fragment([place, *parts[:1]])
    walked: list[str | int] = []
    value = body
    for index, part in enumerate(parts):
        if _is_in(part, value):
            value = value[part]
        elif not (kind in _ABSENT and index == len(parts) - 1):
            continue
        walked.append(part)
    return _fragment(walked)


def _is_in(part: str | int, value: Any) -> bool:
    if isinstance(value, list):
        return isinstance(part, int) and part < len(value)
    return isinstance(value, dict) and part in value


def _fragment(parts: Iterable[str | int]) -> str:
    return "#" + "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)
