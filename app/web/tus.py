"""The tus protocol, version 1.0.0 (https://tus.io/protocols/resumable-upload): its headers."""

import base64
import binascii
import hashlib
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC
from email.utils import format_datetime
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect

from app.domain.problems import (
    ChecksumMismatch,
    MalformedRequest,
    PreconditionFailed,
    Problem,
    UnsupportedMedia,
)
from app.domain.uploads import Upload, metadata_pairs

VERSION = "1.0.0"
MEDIA_TYPE = "application/offset+octet-stream"
_EXTENSIONS = "creation,creation-with-upload,termination,expiration,checksum"
_ALGORITHMS = ("sha1", "sha256", "sha512", "md5")
_LONGEST_NUMBER = 18
_LONGEST_METADATA = 4096


def described(*names: str) -> dict[str, Any]:
    """Return how OpenAPI describes headers of a request that FastAPI does not read."""
    return {
        "parameters": [
            {"name": name, "in": "header", "required": required, "schema": schema, **said}
            for name in names
            for required, schema, said in [_HEADERS[name]]
        ]
    }


_BYTES = {"type": "integer", "minimum": 0, "maximum": 10**_LONGEST_NUMBER - 1}
_HEADERS: dict[str, tuple[bool, dict[str, Any], dict[str, str]]] = {
    "Upload-Length": (True, _BYTES, {"description": "Bytes that the upload is going to have."}),
    "Upload-Offset": (True, _BYTES, {"description": "Where these bytes begin."}),
    "Upload-Metadata": (
        False,
        {"type": "string", "maxLength": _LONGEST_METADATA},
        {
            "description": "`filename` and `sha256` (of the whole, in hexadecimal), each followed"
            " by a blank and its value in base64; comma-separated."
        },
    ),
    "Upload-Checksum": (
        False,
        {"type": "string", "maxLength": 200},
        {"description": "`sha256`, `sha1`, `sha512` or `md5`, and the digest in base64."},
    ),
}


class TusRoute(APIRoute):
    """Refuses other versions of the protocol, and names ours in every answer."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what serves a request of this route."""
        serve = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                asked = request.headers.get("tus-resumable", VERSION)
                if asked != VERSION and request.method != "OPTIONS":
                    raise PreconditionFailed(
                        f"This is tus {VERSION}, not {asked[:20]!r}: set Tus-Resumable.",
                        headers={"Tus-Version": VERSION},
                    )
                answer = await serve(request)
            except Problem as problem:
                problem.headers.setdefault("Tus-Resumable", VERSION)
                raise
            answer.headers["Tus-Resumable"] = VERSION
            return answer

        return handler


class Arriving:
    """The bytes of one request: those that came before a cut stay, unless they have a checksum."""

    def __init__(self, request: Request) -> None:
        self._stream = request.stream()
        self._algorithm, self._wanted = _checksum(request.headers.get("upload-checksum"))
        self._hash = hashlib.new(self._algorithm, usedforsecurity=False)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the bytes.

        Raises:
            ChecksumMismatch: They are not those of ``Upload-Checksum``.
        """
        try:
            async for chunk in self._stream:
                if self._wanted is not None:
                    self._hash.update(chunk)
                yield chunk
        except ClientDisconnect:
            if self._wanted is not None:
                raise
        if self._wanted is not None and self._hash.digest() != self._wanted:
            raise ChecksumMismatch(
                f"The bytes do not have the {self._algorithm} of Upload-Checksum; none was kept:"
                " send them again."
            )


def capabilities(longest: int) -> dict[str, str]:
    """Return what the answer to OPTIONS says."""
    return {
        "Tus-Version": VERSION,
        "Tus-Extension": _EXTENSIONS,
        "Tus-Max-Size": str(longest),
        "Tus-Checksum-Algorithm": ",".join(_ALGORITHMS),
    }


def state(upload: Upload) -> dict[str, str]:
    """Return what every answer about an upload says."""
    return {
        "Upload-Offset": str(upload.offset),
        "Upload-Length": str(upload.length),
        "Upload-Expires": format_datetime(upload.expires_at.astimezone(UTC), usegmt=True),
        "Cache-Control": "no-store",
    }


def length(request: Request) -> int:
    """Return ``Upload-Length``.

    Raises:
        MalformedRequest: There is none, or it is no number.
    """
    return _number(request, "Upload-Length")


def offset(request: Request) -> int:
    """Return ``Upload-Offset``.

    Raises:
        MalformedRequest: There is none, or it is no number.
    """
    return _number(request, "Upload-Offset")


def metadata(request: Request) -> tuple[str, str | None]:
    """Return ``Upload-Metadata`` as it came, and the name of the file in it.

    Raises:
        MalformedRequest: It is not pairs of a name and a value in base64, or too long.
    """
    text = request.headers.get("upload-metadata", "")
    try:
        values = metadata_pairs(text)
    except ValueError:
        values = None
    if values is None or len(text) > _LONGEST_METADATA:
        raise MalformedRequest(
            f"Upload-Metadata is pairs 'name base64', comma-separated, of {_LONGEST_METADATA}"
            " characters at most; 'sha256' is 64 hexadecimal digits, in base64 too."
        )
    name = values.get("filename", values.get("name"))
    return text, None if name is None else name.decode(errors="replace")


def require_media_type(request: Request) -> None:
    """Refuse a body that is not bytes of an upload."""
    if request.headers.get("content-type") != MEDIA_TYPE:
        raise UnsupportedMedia(f"The bytes of an upload are sent as {MEDIA_TYPE}.")


def _number(request: Request, name: str) -> int:
    text = request.headers.get(name, "")
    if not (text.isascii() and text.isdecimal() and len(text) <= _LONGEST_NUMBER):
        raise MalformedRequest(f"The request needs {name}, a number of bytes.")
    return int(text)


def _checksum(text: str | None) -> tuple[str, bytes | None]:
    if text is None:
        return _ALGORITHMS[0], None
    algorithm, _, value = text.strip().partition(" ")
    try:
        digest = base64.b64decode(value, validate=True)
    except binascii.Error:
        digest = b""
    if algorithm not in _ALGORITHMS or not digest:
        raise MalformedRequest(
            f"Upload-Checksum is one of {', '.join(_ALGORITHMS)}, a blank, and base64."
        )
    return algorithm, digest
