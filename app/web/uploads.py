"""Request bodies that are files: raw bytes, or the field ``file`` of a form; streamed."""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Any

from fastapi import Query, Request
from fastapi.concurrency import run_in_threadpool
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from sqlalchemy.orm import Session
from starlette.requests import ClientDisconnect

from app.arriving import plausible, require_plausible
from app.blobs import Incoming
from app.domain.contents import HEAD_BYTES
from app.domain.problems import ChecksumMismatch, FieldError, Invalid, MalformedRequest
from app.domain.references import Reference
from app.services import resumable, uploads
from app.services.uploads import AnyRow, clean_filename
from app.web.arrivals import moving
from app.web.gateway import Call

_FIELD = "file"
_UNKNOWN_FIELD = (
    f"is unknown: send one field, '{_FIELD}', and say the rest in the query, as in '?name='"
)

Name = Annotated[str | None, Query(max_length=200, description="What to call it.")]
Filename = Annotated[str | None, Query(max_length=500, description="The file's name.")]

_BINARY = {"type": "string", "format": "binary"}
_FORM = {"type": "object", "properties": {_FIELD: _BINARY}, "required": [_FIELD]}


def file_body(reference: type[Reference]) -> dict[str, Any]:
    """Return how OpenAPI describes a body that FastAPI does not read: a file, or its address."""
    named = {"$ref": f"#/components/schemas/{reference.__name__}"}
    content = {
        "application/octet-stream": {"schema": _BINARY},
        "multipart/form-data": {"schema": _FORM},
        "application/json": {"schema": named},
    }
    return {"requestBody": {"required": True, "content": content}}


UploadId = Annotated[
    str | None,
    Query(max_length=64, description="A complete upload (`POST /v1/uploads`), in place of a body."),
]


@dataclass
class Received:
    """A file that is in the storage; it is published before something is made of it."""

    call: Call
    incoming: Incoming
    filename: str | None
    upload_id: str | None = None
    """The resumable upload that brought it, which reserved room when it began."""
    reservation: str | None = None

    def publish(self) -> None:
        """Reserve room for the bytes, then publish them; no transaction is open meanwhile.

        Raises:
            TooManyRequests: The tenant's storage quota does not hold them.
        """
        with self.call.transaction() as session:
            if self.upload_id is None:
                settings, tenant = self.call.gateway.settings, self.call.tenant
                self.reservation = uploads.reserve(session, settings, tenant, self.incoming)
            else:
                uploads.announce(session, self.incoming)
        self.call.gateway.blobs.publish(self.incoming)

    def use(self, session: Session) -> None:
        """Note, in the transaction that makes something of the file, that it is used."""
        if self.upload_id is not None:
            settings, tenant = self.call.gateway.settings, self.call.tenant
            resumable.use(session, settings, tenant, self.upload_id, self.incoming)
        if self.reservation is not None:
            uploads.release(session, self.reservation)

    def kept(self, session: Session, row: AnyRow) -> str:
        """Store the model or dataset that is made of the published bytes, and return its id."""
        self.use(session)
        return uploads.keep(session, row, self.incoming.sha256, self.incoming.size_bytes).id

    def discard(self) -> None:
        """Remove the bytes unless they are published, and give unused room back."""
        self.call.gateway.blobs.discard(self.incoming)
        if self.reservation is not None:
            with self.call.transaction() as session:
                uploads.release(session, self.reservation)


async def stored(received: Received, row: AnyRow) -> str:
    """Publish a file, then store the model or dataset that is made of it, and return its id."""

    def store() -> str:
        received.publish()
        with received.call.transaction() as session:
            return received.kept(session, row)

    return await moving(store)


@asynccontextmanager
async def receive_or_take(
    request: Request, call: Call, kind: str, upload_id: str | None
) -> AsyncIterator[Received]:
    """Stream the body into the storage, or take what came by an upload that went on.

    Raises:
        Invalid: There is no such upload, or a body besides; also as for ``receive``.
        Conflict: The upload is not complete.
        TooManyRequests: The tenant sends as many files at one time as it may.
    """
    taking = receive(request, call, kind) if upload_id is None else None
    with call.gateway.arrivals.one(call.tenant):
        async with taking or _take(request, call, kind, upload_id or "") as received:
            yield received


@asynccontextmanager
async def _take(request: Request, call: Call, kind: str, upload_id: str) -> AsyncIterator[Received]:
    """Hand out a complete upload: a single part as it is, several put together.

    What a client sent to the storage itself is read here too: it may replace a part until its
    address expires, so the bytes are copied as they are hashed.
    """
    if request.headers.get("content-length", "0") != "0":
        fault = FieldError(pointer="#/query/upload_id", detail="stands in place of a body")
        raise Invalid("Send either the bytes or upload_id.", errors=[fault])
    blobs = call.gateway.blobs

    def find() -> resumable.Complete:
        with call.transaction() as session:
            return resumable.complete(session, call.tenant, upload_id)

    found = await run_in_threadpool(find)
    single = len(found.parts) == 1 and not found.direct
    if single:
        incoming = found.parts[0]
        head = await moving(blobs.head, incoming, HEAD_BYTES)
        require_plausible(kind, head)
    else:
        whole = plausible(blobs.join(found.parts), kind)
        incoming = await blobs.receive(whole, limit=call.gateway.settings.upload.max_bytes)
    try:
        _require_announced(found, incoming)
        yield Received(call, incoming, found.filename, upload_id)
    finally:
        if not single:
            await moving(blobs.discard, incoming)
    for part in found.parts:
        await moving(blobs.discard, part)


def _require_announced(found: resumable.Complete, incoming: Incoming) -> None:
    """Refuse bytes that have another SHA-256 than the upload's metadata announces."""
    if found.sha256 not in {None, incoming.sha256}:
        raise ChecksumMismatch(
            f"The upload has the SHA-256 {incoming.sha256}, not {found.sha256}, which its metadata"
            " announces: delete it, and send the file again."
        )


@asynccontextmanager
async def receive(request: Request, call: Call, kind: str) -> AsyncIterator[Received]:
    """Stream the body into the storage; what the block does not publish is removed.

    Raises:
        Invalid: There is no file, or it is empty.
        TooLarge: It has more bytes than are accepted.
        UnsupportedMedia: Its first bytes show that it is something else.
        MalformedRequest: The form is broken, or the body ended early.
    """
    media, options = parse_options_header(request.headers.get("content-type"))
    form = _Form(options.get(b"boundary", b"")) if media == b"multipart/form-data" else None
    chunks = request.stream() if form is None else form.file(request.stream())
    limit = call.gateway.settings.upload.max_bytes
    try:
        incoming = await call.gateway.blobs.receive(plausible(chunks, kind), limit=limit)
    except ClientDisconnect as error:
        raise MalformedRequest("The connection ended before the body did.") from error
    async with kept_until_used(call, incoming, None if form is None else form.filename) as received:
        yield received


@asynccontextmanager
async def kept_until_used(
    call: Call, incoming: Incoming, filename: str | None
) -> AsyncIterator[Received]:
    """Hand out bytes that have arrived; what the block does not publish is removed."""
    received = Received(call, incoming, filename)
    try:
        yield received
    finally:
        await moving(received.discard)


def fingerprint(request: Request, received: Received) -> bytes:
    """Return what stands for the whole request: the file and the query.

    An upload stands for its bytes: the same request has been answered before they were read.
    """
    file = received.incoming.sha256 if received.upload_id is None else ""
    return sha256(f"{file}?{request.url.query}".encode()).digest()


class _Form:
    """Takes the one file out of a ``multipart/form-data`` body as it arrives."""

    def __init__(self, boundary: bytes) -> None:
        if not boundary:
            raise MalformedRequest("The form has no boundary in its Content-Type.")
        self.filename: str | None = None
        self._found: deque[bytes] = deque()
        self._files = 0
        self._header: tuple[bytes, bytes] = (b"", b"")
        self._disposition = b""
        self._ended = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_begin": self._header_begin,
                    "on_header_field": self._header_field,
                    "on_header_value": self._header_value,
                    "on_header_end": self._header_end,
                    "on_headers_finished": self._headers_finished,
                    "on_part_data": self._data,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise MalformedRequest(f"The form is broken: {error}") from error

    async def file(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield the bytes of the field ``file``."""
        async for chunk in body:
            try:
                self._parser.write(chunk)
            except FormParserError as error:
                raise MalformedRequest(f"The form is broken: {error}") from error
            while self._found:
                yield self._found.popleft()
        if not self._ended:
            raise MalformedRequest("The form ends before its last boundary.")
        if not self._files:
            raise _field_fault(_FIELD, "is required: the form has no such field")

    def _begin(self) -> None:
        self._disposition = b""

    def _header_begin(self) -> None:
        self._header = (b"", b"")

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header = (self._header[0] + data[start:end], b"")

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._header = (self._header[0], self._header[1] + data[start:end])

    def _header_end(self) -> None:
        if self._header[0].lower() == b"content-disposition":
            self._disposition = self._header[1]

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode(errors="replace")
        if name != _FIELD:
            raise _field_fault(name, _UNKNOWN_FIELD)
        self._files += 1
        if self._files > 1:
            raise _field_fault(name, "is there twice: send one file at a time")
        self.filename = clean_filename(options.get(b"filename", b"").decode(errors="replace"))

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._found.append(data[start:end])

    def _end(self) -> None:
        self._ended = True


def _field_fault(name: str, detail: str) -> Invalid:
    pointer = "#/" + name.replace("~", "~0").replace("/", "~1")[:200]
    return Invalid(f"{pointer} {detail}.", errors=[FieldError(pointer=pointer, detail=detail)])
