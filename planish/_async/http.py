"""HTTP requests that are asked again where that is safe, and errors that are typed.

A request is repeated when nothing answered, when the service is busy (429, 503), and while the
first of two equal requests is still under way (409 ``request-in-flight``). Each POST carries an
``Idempotency-Key``, so that a repeated one is carried out once.
"""

import hashlib
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx
from pydantic import BaseModel

from planish._answers import (
    SILENCE_S,
    given,
    is_away,
    pause_before_retry,
    pauses,
    problem_of,
    words_of,
)
from planish._async import io
from planish._outages import Outage, Tell
from planish.errors import Unreachable, refusal

_BLOCK_BYTES = 1024**2

_Answer = TypeVar("_Answer", bound=BaseModel)


@dataclass(frozen=True)
class FilePart:
    """The bytes of a file from ``start`` up to ``end``, as a request's body."""

    path: Path
    start: int
    end: int

    @classmethod
    def whole(cls, path: Path) -> Self:
        """Return all of a file."""
        return cls(path, 0, path.stat().st_size)

    def sha256(self) -> str:
        """Return the SHA-256 of the whole file."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the bytes."""
        with await io.call(self.path.open, "rb") as file:
            file.seek(self.start)
            left = self.end - self.start
            while left and (block := await io.call(file.read, min(left, _BLOCK_BYTES))):
                left -= len(block)
                yield block


class AsyncTransport:
    """One service, one key."""

    def __init__(
        self,
        url: str,
        key: str | None,
        *,
        timeout_s: float,
        attempts: int,
        patience_s: float = 0.0,
        on_outage: Tell | None = None,
    ) -> None:
        headers = {"User-Agent": f"planish/{version('planish')}"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        self.url = url
        self.attempts = attempts
        self.timeout_s = timeout_s
        self._patience_s = patience_s
        self._was_there = False
        self._outage = Outage(url, on_outage)
        self._http = io.Http(
            base_url=url, headers=headers, timeout=httpx.Timeout(timeout_s, read=SILENCE_S)
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    def waiting(self) -> Iterator[float]:
        """Yield the seconds between attempts of whoever waits for what the service works on.

        A service that has answered before will be back; an address where nothing ever has is given
        up after the usual attempts.
        """
        return pauses(self.attempts, self._patience_s if self._was_there else 0.0)

    async def get(self, path: str, kind: type[_Answer], **params: str | None) -> _Answer:
        """GET ``path`` and read the answer as ``kind``; parameters that are None are left out."""
        response = await self.request("GET", path, params=params)
        return kind.model_validate_json(response.content)

    async def look(self, path: str, kind: type[_Answer]) -> _Answer:
        """GET ``path`` as whoever waits for it does, through an outage."""
        response = await self.request("GET", path, between=self.waiting())
        return kind.model_validate_json(response.content)

    async def post(
        self,
        path: str,
        kind: type[_Answer],
        body: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        **params: str | None,
    ) -> _Answer:
        """POST ``body`` as JSON and read the answer as ``kind``."""
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        response = await self.request("POST", path, params=params, json=body, headers=headers)
        return kind.model_validate_json(response.content)

    async def post_file(
        self, path: str, kind: type[_Answer], file: FilePart, **params: str | None
    ) -> _Answer:
        """POST the bytes of a file and read the answer as ``kind``."""
        headers = {
            "Idempotency-Key": str(uuid.uuid4()),
            "Content-Type": "application/octet-stream",
        }
        response = await self.request("POST", path, params=params, file=file, headers=headers)
        return kind.model_validate_json(response.content)

    async def items(self, path: str, **params: str | None) -> AsyncIterator[dict[str, Any]]:
        """Yield what a list holds, from its first page to its last."""
        more = True
        while more:
            response = await self.request("GET", path, params=params)
            page = response.json()
            for item in page["items"]:
                yield item
            params["cursor"] = page.get("next_cursor")
            more = params["cursor"] is not None

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | None] | None = None,
        json: Mapping[str, Any] | None = None,
        file: FilePart | None = None,
        headers: Mapping[str, str] | None = None,
        attempts: int | None = None,
        between: Iterator[float] | None = None,
    ) -> httpx.Response:
        """Send a request until it is answered for good, or ``attempts`` times.

        ``between`` has the seconds between attempts, in place of their number.

        Raises:
            Unreachable: nothing answered, in all attempts.
            Refused: the service said no.
        """
        headers = {"Accept": "application/json", **(headers or {})}
        if file is not None:
            headers["Content-Length"] = str(file.end - file.start)
        for pause in chain(between or pauses(attempts or self.attempts), [None]):
            try:
                response = await self._http.request(
                    method,
                    path,
                    params=given(params or {}),
                    json=json,
                    content=None if file is None else file.chunks(),
                    headers=headers,
                )
            except httpx.UnsupportedProtocol:
                raise Unreachable(
                    f"{self._http.base_url} is no address of a service:"
                    " those begin with http:// or https://."
                ) from None
            except httpx.TransportError as error:
                if pause is None:
                    raise Unreachable(
                        f"{self._http.base_url} does not answer: {words_of(error)}"
                    ) from None
                self._outage.failed(words_of(error))
                await io.sleep(pause)
                continue
            self._note(response)
            if response.is_success:
                return response
            problem = problem_of(response)
            wait = pause and pause_before_retry(
                response, problem, pause, sends_a_file=file is not None
            )
            if wait is None:
                raise refusal(problem)
            self._note_absence(response)
            await io.sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    @asynccontextmanager
    async def stream(
        self, path: str, headers: Mapping[str, str], **params: str | None
    ) -> AsyncIterator[httpx.Response]:
        """GET ``path`` as a stream, once; connection errors are the caller's.

        Raises:
            Refused: the service said no.
        """
        query = given(params)
        try:
            async with self._http.stream("GET", path, params=query, headers=headers) as response:
                self._note(response)
                self._note_absence(response)
                if response.is_error:
                    await response.aread()
                    raise refusal(problem_of(response))
                yield response
        except httpx.TransportError as error:
            self._outage.failed(words_of(error))
            raise

    def _note(self, response: httpx.Response) -> None:
        """Note that the service is there, if it is what has answered."""
        self._was_there = self._was_there or response.is_success
        if not is_away(response):
            self._outage.answered()

    def _note_absence(self, response: httpx.Response) -> None:
        """Note that the service is away and is asked again, if so."""
        if is_away(response):
            self._outage.failed(f"{response.status_code} {response.reason_phrase}".strip())
