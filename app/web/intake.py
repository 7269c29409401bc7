"""What becomes of a file that a request brings or names: a model or a dataset."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel
from sqlalchemy.orm import Session

from app.arriving import require_plausible
from app.domain.contents import HEAD_BYTES
from app.domain.problems import Conflict, NotFound
from app.domain.references import DatasetReference, ModelReference, Reference
from app.domain.sources import Source
from app.services import datasets, models, resumable, uploads
from app.services import references as referring
from app.services.uploads import Row
from app.web import references
from app.web.arrivals import moving
from app.web.gateway import Call
from app.web.idempotency import once
from app.web.uploads import fingerprint, receive_or_take

Named = TypeVar("Named", bound=Reference)


@dataclass(frozen=True)
class Kind(Generic[Row, Named]):
    """What differs between models and datasets when one is taken in."""

    name: Literal["model", "dataset"]
    reference: type[Named]
    """The body that names a file by its address."""
    referred: Callable[[str, Named], Row]
    """Makes the row of a file at an address, of the tenant and the body."""
    view: Callable[[Row], BaseModel]


MODEL = Kind("model", ModelReference, models.referred, models.view)
DATASET = Kind("dataset", DatasetReference, datasets.referred, datasets.view)


async def take_in(
    request: Request,
    call: Call,
    kind: Kind[Row, Named],
    new: Callable[[str | None], Row],
    upload_id: str | None,
    key: str | None,
) -> Response:
    """Answer with the model or dataset that is made of a request's file.

    Args:
        request: its body is the file, or its address; with an upload it has none.
        call: of the request.
        kind: what the file is.
        new: makes the row of the file, of the name that came with it.
        upload_id: the upload that brought the file.
        key: the request's ``Idempotency-Key``.

    Raises:
        Invalid, Conflict, TooManyRequests, UnsupportedMedia: as ``receive_or_take`` and
            ``references.add`` say.
    """
    if references.names_address(request.headers.get("content-type")):
        return await _refer(request, call, kind, upload_id, key)
    if upload_id is not None:
        upload = await run_in_threadpool(_sent_to_storage, call, kind.name, upload_id)
        if upload is not None:
            return await _read_later(request, call, kind, new(upload.filename), upload, key)
    async with receive_or_take(request, call, kind.name, upload_id) as received:

        def keep(session: Session) -> BaseModel:
            received.use(session)
            row, came = new(received.filename), received.incoming
            return kind.view(uploads.keep(session, row, came.sha256, came.size_bytes))

        answer = once(request, call, key, fingerprint(request, received))
        return await moving(answer, 201, keep, first=received.publish, tell=kind.name)


async def _refer(
    request: Request,
    call: Call,
    kind: Kind[Row, Named],
    upload_id: str | None,
    key: str | None,
) -> Response:
    """Have a worker fetch the file that the body names by its address."""
    reference = await references.read(request, kind.reference, upload_id)

    def add(session: Session) -> BaseModel:
        row = kind.referred(call.tenant, reference)
        return kind.view(referring.add(session, call.gateway.settings, row, reference))

    answer = once(request, call, key, await references.fingerprint(request))
    return await run_in_threadpool(answer, 202, add, tell=kind.name)


async def _read_later(
    request: Request,
    call: Call,
    kind: Kind[Row, Named],
    row: Row,
    upload: resumable.Complete,
    key: str | None,
) -> Response:
    """Have a worker read the parts that a client sent to the storage itself."""
    source = Source.of_upload(upload.id, upload.sha256)

    def add(session: Session) -> BaseModel:
        return kind.view(referring.fetch(session, call.gateway.settings, row, source))

    answer = once(request, call, key, await references.fingerprint(request))
    return await run_in_threadpool(answer, 202, add, tell=kind.name)


def _sent_to_storage(call: Call, kind: str, upload_id: str) -> resumable.Complete | None:
    """Return an upload whose parts nobody has read; None where the gateway received its bytes.

    Raises:
        Invalid, Conflict: as ``resumable.complete``; also where the storage has lost a part.
        UnsupportedMedia: Its first bytes show that it is something else.
    """
    with call.transaction() as session:
        upload = resumable.complete(session, call.tenant, upload_id)
    if not upload.direct:
        return None
    try:
        head = call.gateway.blobs.head(upload.parts[0], HEAD_BYTES)
    except NotFound:
        raise Conflict(
            "A part of the upload is not in the storage any more: ask once more, as a worker may"
            " just have read it, else send the file again."
        ) from None
    require_plausible(kind, head)
    return upload
