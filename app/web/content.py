"""Answer with stored bytes: ranges, conditions and digests of RFC 9110 and RFC 9530."""

import base64
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from app.blobs import Blobs
from app.domain.problems import RangeNotSatisfiable

_RANGE = re.compile(r"bytes=\s*([0-9]{0,18})-([0-9]*)\s*", re.IGNORECASE)
_LONGEST_RANGE = 100
_ETAGS = re.compile(r'(?:W/)?("[^"]*")')


_MEDIA_TYPE = "application/octet-stream"
_BYTES = {"content": {_MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}}

DOCUMENTED: dict[int | str, dict[str, Any]] = {
    200: {"description": "All bytes.", **_BYTES},
    206: {"description": "The bytes of the `Range` that was asked for.", **_BYTES},
    304: {"description": "Unchanged since the `ETag` that `If-None-Match` names."},
}
"""OpenAPI's ``responses`` of a download."""


@dataclass(frozen=True)
class Content:
    """Stored bytes and how they are named to those who download them."""

    sha256: str
    size_bytes: int
    filename: str

    @property
    def etag(self) -> str:
        """A strong validator: the same bytes, the same tag."""
        return f'"{self.sha256}"'

    def headers(self) -> dict[str, str]:
        """Return what every answer about these bytes says."""
        digest = base64.b64encode(bytes.fromhex(self.sha256)).decode()
        return {
            "ETag": self.etag,
            "Accept-Ranges": "bytes",
            "Repr-Digest": f"sha-256=:{digest}:",
            "Content-Disposition": disposition(self.filename),
            "Cache-Control": "private, no-cache",
        }


async def respond(request: Request, blobs: Blobs, content: Content) -> Response:
    """Return the content, the part of it that is asked for, or that nothing has changed.

    Several ranges at once are answered with the whole, as the standard permits: one answer cannot
    be made to cost more than the file.

    Raises:
        RangeNotSatisfiable: The range begins after the end.
        NotFound: The bytes are no longer in the storage.
    """
    headers = content.headers()
    if unchanged(request, content.etag):
        return Response(status_code=304, headers=headers)
    start, end = 0, content.size_bytes
    status = 200
    part = _part(request, content)
    if part is not None:
        start, end = part
        status = 206
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{content.size_bytes}"
    headers["Content-Length"] = str(end - start)
    if request.method == "HEAD":
        return Response(None, status, headers, _MEDIA_TYPE)
    stream = blobs.stream(content.sha256, start, end)
    first = await anext(stream, b"")
    return StreamingResponse(_with(first, stream), status, headers, _MEDIA_TYPE)


def unchanged(request: Request, etag: str) -> bool:
    """Say whether the client already has what ``etag`` names (``If-None-Match``)."""
    given = request.headers.get("if-none-match", "")[:4096]
    return given.strip() == "*" or etag in _ETAGS.findall(given)


def disposition(filename: str) -> str:
    """Return ``Content-Disposition`` for a download, with any name spelled safely (RFC 6266)."""
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", filename)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"


def _part(request: Request, content: Content) -> tuple[int, int] | None:
    """Return the one range that is asked for, as ``(start, end)``; None means all of it."""
    asked = request.headers.get("range", "")
    if not asked or request.method == "HEAD" or len(asked) > _LONGEST_RANGE:
        return None
    if request.headers.get("if-range", content.etag) != content.etag:
        return None
    match = _RANGE.fullmatch(asked)
    if match is None or not any(match.groups()):
        return None
    first, last = match.groups()
    size = content.size_bytes
    if not first:
        start, end = max(size - int(last), 0), size
    else:
        start, end = int(first), min(int(last or size - 1) + 1, size)
        if last and int(last) < start:
            return None
    if start >= size:
        raise RangeNotSatisfiable(
            f"The file has {size} bytes.", headers={"Content-Range": f"bytes */{size}"}
        )
    return start, end


async def _with(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for part in rest:
        yield part
