"""``/v1/uploads``: bytes that come in several requests, by the tus protocol."""

from datetime import UTC, datetime

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.orm import Session

from app.blobs import PARTS, Arrived, Incoming
from app.domain.problems import (
    ChecksumMismatch,
    Conflict,
    NotAvailable,
    NotFound,
    PreconditionFailed,
    RequestInFlight,
    TooLarge,
    TooManyRequests,
    UnsupportedMedia,
)
from app.domain.uploads import Part, Parts, Sent, Upload
from app.presigned import Presigned
from app.services import direct, resumable
from app.web import tus
from app.web.arrivals import moving
from app.web.gateway import Call
from app.web.idempotency import IdempotencyKey, Posted, once
from app.web.problems import documented
from app.web.security import Caller, Writer

router = APIRouter(prefix="/uploads", tags=["uploads"], route_class=tus.TusRoute)


@router.options("", include_in_schema=False)
def capabilities(call: Caller) -> Response:
    """Say which version and extensions of tus are spoken here."""
    longest = call.gateway.settings.upload.max_bytes
    return Response(None, 204, tus.capabilities(longest))


@router.post(
    "",
    status_code=201,
    response_model=Upload,
    responses=documented(
        RequestInFlight,
        PreconditionFailed,
        TooLarge,
        UnsupportedMedia,
        ChecksumMismatch,
        TooManyRequests,
    ),
    openapi_extra=tus.described("Upload-Length", "Upload-Metadata"),
)
async def begin_upload(request: Request, call: Caller, key: IdempotencyKey = None) -> Response:
    """Begin an upload that may be interrupted and go on (tus 1.0).

    `Upload-Length` says how many bytes there will be, `Upload-Metadata` may name the file.
    `Location` takes the bytes; the first of them may come with this request. Then
    `POST /v1/models?upload_id=`.
    """
    length = tus.length(request)
    metadata, filename = tus.metadata(request)
    has_body = "content-type" in request.headers
    if has_body:
        tus.require_media_type(request)

    def begin(session: Session) -> Upload:
        settings = call.gateway.settings
        return resumable.begin(session, settings, call.tenant, length, metadata, filename)

    answer = once(request, call, key, f"{length} {metadata}".encode())
    made = await run_in_threadpool(answer, 201, begin)
    upload = Upload.model_validate_json(bytes(made.body))
    if has_body and "idempotent-replay" not in made.headers:
        upload = await _append(request, call, upload.id, 0)
    made.headers.update({"Location": f"/v1/uploads/{upload.id}", **tus.state(upload)})
    return made


@router.head("/{upload_id}", include_in_schema=False)
@router.get(
    "/{upload_id}",
    response_model=Upload,
    responses=documented(NotFound, PreconditionFailed),
)
def get_upload(request: Request, upload_id: str, call: Caller) -> Response:
    """Show how much of an upload has arrived: `Upload-Offset` is where to go on."""
    with call.transaction() as session:
        row = resumable.find(session, call.tenant, upload_id)
        upload, metadata = resumable.view(call.gateway.settings, row), row.metadata_
    headers = tus.state(upload)
    if metadata:
        headers["Upload-Metadata"] = metadata
    body = None if request.method == "HEAD" else upload.model_dump_json()
    return Response(body, 200, headers, "application/json")


@router.patch(
    "/{upload_id}",
    status_code=204,
    response_class=Response,
    responses=documented(
        NotFound,
        Conflict,
        PreconditionFailed,
        TooLarge,
        UnsupportedMedia,
        ChecksumMismatch,
        TooManyRequests,
    ),
    openapi_extra={
        **tus.described("Upload-Offset", "Upload-Checksum"),
        "requestBody": {
            "required": True,
            "content": {tus.MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}},
        },
    },
)
async def append_to_upload(request: Request, upload_id: str, call: Caller) -> Response:
    """Send the bytes from `Upload-Offset` on. What arrived before a cut is kept."""
    tus.require_media_type(request)
    upload = await _append(request, call, upload_id, tus.offset(request))
    return Response(None, 204, tus.state(upload))


@router.delete("/{upload_id}", status_code=204, responses=documented(NotFound, PreconditionFailed))
def delete_upload(upload_id: str, call: Caller) -> Response:
    """Forget an upload and its bytes; what was made of it stays."""
    with call.transaction() as session:
        parts = resumable.drop(session, call.tenant, upload_id)
    for part in parts:
        call.gateway.blobs.discard(part)
    if call.gateway.presigned is not None:
        call.gateway.blobs.forget_arrived(upload_id)
    return Response(None, 204)


@router.get(
    "/{upload_id}/parts",
    responses=documented(NotFound, Conflict, NotAvailable),
)
def address_parts(upload_id: str, call: Writer) -> Parts:
    """List the parts that the storage does not have yet, each with an address that takes it.

    The bytes of each go there with `PUT`, and do not pass the gateway; then
    `POST /v1/uploads/{upload_id}/complete`. Of a deployment that says `direct` in its uploads; the
    key needs the scope `write`.
    """
    gateway = call.gateway
    with call.transaction() as session:
        plan = direct.planned(session, gateway.settings, call.tenant, upload_id)
    presigned = _require_presigned(call)
    missing = direct.missing(plan.parts, gateway.blobs.arrived(upload_id))
    until = datetime.now(UTC) + plan.lifetime
    urls = presigned.addresses([part.key for part in missing], plan.lifetime)
    items = [
        Part(start=part.start, size_bytes=part.size_bytes, url=url)
        for part, url in zip(missing, urls, strict=True)
    ]
    return Parts(items=items, headers=presigned.headers, expires_at=until)


@router.post(
    "/{upload_id}/complete",
    response_model=Upload,
    responses=documented(NotFound, Conflict, NotAvailable, RequestInFlight),
)
def complete_upload(upload_id: str, call: Caller, once: Posted, body: Sent) -> Response:
    """Say that the storage has all parts: that they are there, and their sizes, is checked."""
    arrived: dict[str, Arrived] = {}

    def look() -> None:
        with call.transaction() as session:
            resumable.find(session, call.tenant, upload_id)
        _require_presigned(call)
        arrived.update(call.gateway.blobs.arrived(upload_id))

    def complete(session: Session) -> Upload:
        settings = call.gateway.settings
        return direct.complete(session, settings, call.tenant, upload_id, arrived, body.parts)

    return once(200, complete, first=look)


def _require_presigned(call: Call) -> Presigned:
    presigned = call.gateway.presigned
    if presigned is None:
        raise NotAvailable(
            "This deployment's storage takes no bytes from clients; the operator can allow it with"
            " UPLOAD_DIRECT_URL. Send the bytes here with PATCH."
        )
    return presigned


async def _append(request: Request, call: Call, upload_id: str, start: int) -> Upload:
    """Store the body as the next part; no transaction is open while it arrives."""
    blobs = call.gateway.blobs

    def find() -> int:
        with call.transaction() as session:
            row = resumable.find(session, call.tenant, upload_id)
            resumable.require_offset(row, start)
            return row.length - start

    missing = await run_in_threadpool(find)
    with call.gateway.arrivals.one(call.tenant):
        part = await blobs.receive(tus.Arriving(request).chunks(), limit=missing, into=PARTS)

    def add(part: Incoming) -> Upload:
        with call.transaction() as session:
            settings = call.gateway.settings
            return resumable.append(session, settings, call.tenant, upload_id, start, part)

    try:
        upload = await run_in_threadpool(add, part)
    except BaseException:
        await moving(blobs.discard, part)
        raise
    if not part.size_bytes:
        await moving(blobs.discard, part)
    return upload
