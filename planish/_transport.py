"""HTTP requests that are asked again where that is safe, and errors that are typed.

A request is repeated when nothing answered, when the service is busy (429, 503), and while the
first of two equal requests is still under way (409 ``request-in-flight``). Each POST carries an
``Idempotency-Key``, so that a repeated one is carried out once.
"""

import random
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import httpx
from pydantic import ValidationError

from planish.errors import Refused, Unreachable, refusal
from planish.types import Problem

_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 10.0
_SILENCE_S = 60.0
"""A stream of events has a comment every 15 seconds; after this long it is dead."""


class Transport:
    """One service, one key."""

    def __init__(self, url: str, key: str | None, *, timeout_s: float, attempts: int) -> None:
        headers = {"User-Agent": f"planish/{version('planish')}"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        self._attempts = attempts
        self._http = httpx.Client(
            base_url=url, headers=headers, timeout=httpx.Timeout(timeout_s, read=_SILENCE_S)
        )

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get(
        self,
        path: str,
        params: Mapping[str, str | None] | None = None,
        *,
        accept: str = "application/json",
    ) -> httpx.Response:
        """GET ``path``; parameters that are None are left out."""
        headers = {"Accept": accept}
        query = _given(params or {})
        return self._again(lambda: self._http.get(path, params=query, headers=headers))

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> httpx.Response:
        """POST ``body`` as JSON."""
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        return self._again(lambda: self._http.post(path, json=body, headers=headers))

    def post_file(self, path: str, file: Path, **params: str | None) -> httpx.Response:
        """POST the bytes of ``file``, streamed."""
        headers = {
            "Idempotency-Key": str(uuid.uuid4()),
            "Content-Type": "application/octet-stream",
        }

        def send() -> httpx.Response:
            with file.open("rb") as content:
                return self._http.post(
                    path, params=_given(params), content=content, headers=headers
                )

        return self._again(send)

    @contextmanager
    def stream(self, path: str, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
        """GET ``path`` as a stream, once; connection errors are the caller's."""
        with self._http.stream("GET", path, headers=headers) as response:
            if response.is_error:
                response.read()
                raise refusal(_problem(response))
            yield response

    def _again(self, send: Callable[[], httpx.Response]) -> httpx.Response:
        for pause in [*pauses(self._attempts), None]:
            try:
                response = send()
            except httpx.TransportError as error:
                if pause is None:
                    raise Unreachable(f"{self._http.base_url} does not answer: {error}") from error
                time.sleep(pause)
                continue
            if response.is_success:
                return response
            problem = _problem(response)
            if pause is None or not _is_passing(problem):
                raise refusal(problem)
            time.sleep(_asked_for(response) or pause)
        raise AssertionError("the last attempt returns or raises")


def pauses(attempts: int) -> Iterator[float]:
    """Yield the seconds between ``attempts``: doubling, each with jitter."""
    for attempt in range(attempts - 1):
        yield min(_FIRST_PAUSE_S * 2**attempt, _LONGEST_PAUSE_S) * random.uniform(0.5, 1.0)  # noqa: S311 (no secret)


def is_passing(error: Refused) -> bool:
    """Whether the same request may be answered in a moment."""
    return _is_passing(error.problem)


def _is_passing(problem: Problem) -> bool:
    return problem.status in {429, 502, 503, 504} or problem.type == "request-in-flight"


def _asked_for(response: httpx.Response) -> float | None:
    after = response.headers.get("Retry-After", "")
    return min(float(after), _LONGEST_PAUSE_S) if after.isdigit() else None


def _given(params: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in params.items() if value is not None}


def _problem(response: httpx.Response) -> Problem:
    """Read the problem; make one of what a proxy in between may have answered."""
    try:
        return Problem.model_validate_json(response.content)
    except ValidationError:
        return Problem(
            title=response.reason_phrase or "An error",
            status=response.status_code,
            detail=response.text[:500],
        )
