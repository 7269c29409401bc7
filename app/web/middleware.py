"""Around every request: an id, a log line, a duration, safe headers, a bounded body, an answer."""

import re
import secrets
import time
from typing import Any

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import tracing
from app.domain.problems import (
    HeaderTooLarge,
    InternalError,
    MalformedRequest,
    NotFound,
    Problem,
    TooLarge,
)
from app.settings import Settings
from app.web.metrics import Metrics
from app.web.problems import Answers
from app.web.references import names_address
from app.web.security import STANDING, require_own_page

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_UPLOADS = frozenset({"/v1/models", "/v1/datasets", "/models", "/datasets"})
_PARTS = ("/v1/uploads", "/uploads")
_HEADER_BYTES = 64 * 1024
_ENVELOPE_BYTES = 64 * 1024
"""What a form may add around a file."""
_SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

log = structlog.get_logger(__name__)


class Observed:
    """Gives each request an id and a log line, and answers what nobody else caught."""

    def __init__(self, app: ASGIApp, metrics: Metrics, answer: Answers) -> None:
        self._app = app
        self._metrics = metrics
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                sent = MutableHeaders(raw=message.setdefault("headers", []))
                sent["X-Request-ID"] = request_id
                if (standing := scope.get(STANDING)) is not None:
                    sent.update(standing.headers())
                for field, value in _SAFE_HEADERS.items():
                    sent.setdefault(field, value)
            await send(message)

        parent = headers.get("traceparent")
        with (
            structlog.contextvars.bound_contextvars(request_id=request_id),
            tracing.span("request", "server", parent=parent, attributes={"request.id": request_id}),
        ):
            try:
                await self._app(scope, receive, sending)
            except Exception:
                log.exception("internal error", method=scope["method"], path=scope["path"])
                if status:
                    raise
                problem = InternalError(f"A fault of ours; the log has it as {request_id}.")
                await self._answer(Request(scope), problem)(scope, receive, sending)
            finally:
                self._record(scope, status, time.perf_counter() - began)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route = _route(scope)
        tracing.rename(f"{scope['method']} {route}")
        self._metrics.requests.labels(scope["method"], route, str(status)).observe(seconds)
        log.info(
            "request",
            method=scope["method"],
            path=scope["path"],
            status=status,
            seconds=round(seconds, 4),
        )


def _route(scope: Scope) -> str:
    """Return the template of the path, such as ``/v1/jobs/{job_id}``, once a request is routed.

    The route itself knows its path in its router alone, without the prefix of the router.
    """
    included = scope.get("fastapi", {}).get("effective_route_context")
    path: str = getattr(included or scope.get("route"), "path", "unknown")
    return path


class Guarded:
    """Refuses foreign pages, paths that cannot exist, and bodies that are too large."""

    def __init__(self, app: ASGIApp, settings: Settings, answer: Answers) -> None:
        self._app = app
        self._settings = settings
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        limit = self._limit(scope)
        try:
            if sum(len(name) + len(value) for name, value in scope["headers"]) > _HEADER_BYTES:
                raise HeaderTooLarge(f"All header fields together may have {_HEADER_BYTES} bytes.")
            require_own_page(self._settings, scope["method"], headers)
            if "\0" in scope["path"]:
                raise NotFound("There is nothing whose name contains U+0000.")
            if b"%00" in scope["query_string"]:
                raise MalformedRequest("The query must not contain U+0000.")
            length = headers.get("content-length", "0")
            if length.isdecimal() and int(length[:20]) > limit:
                raise _too_large(limit)
        except Problem as problem:
            await self._answer(Request(scope), problem)(scope, receive, send)
            return
        await self._app(scope, _bounded(receive, limit), send)

    def _limit(self, scope: Scope) -> int:
        """Return how many bytes the body may have; uploads count their file as it streams."""
        upload = self._settings.upload
        named = names_address(Headers(scope=scope).get("content-type"))
        whole = scope["method"] == "POST" and scope["path"] in _UPLOADS and not named
        begins = scope["method"] == "POST" and scope["path"] in _PARTS
        part = begins or (scope["method"] == "PATCH" and scope["path"].startswith(_PARTS))
        if whole or part:
            return upload.max_bytes + _ENVELOPE_BYTES
        return upload.max_json_bytes


def _bounded(receive: Receive, limit: int) -> Receive:
    received = 0

    async def receiving() -> Any:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            problem = _too_large(limit)
            raise HTTPException(problem.status, problem.detail)
        return message

    return receiving


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The body may have {limit} bytes here.")
