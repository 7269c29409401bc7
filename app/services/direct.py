"""Uploads whose bytes clients send to the storage itself, so that they do not pass the gateway.

A part is an object of its own, which the storage takes at a signed address. Nobody has read the
bytes when the upload is complete: a worker does, when a model or dataset is made of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy.orm import Session

from app.blobs import Arrived, parts_prefix
from app.domain.problems import Conflict, FieldError, Invalid
from app.domain.uploads import SentPart, Upload
from app.services import resumable
from app.settings import Settings
from app.store import leases
from app.store.tables import UploadPartRow, UploadRow

_MOST_PARTS = 1000
_ADDRESS_LIFETIME = timedelta(hours=1)
_LEAST_LIFETIME = timedelta(seconds=1)


@dataclass(frozen=True)
class Planned:
    """A part of an upload, and where it is to be stored."""

    start: int
    size_bytes: int
    key: str


@dataclass(frozen=True)
class Plan:
    """The parts in which the storage takes an upload, and for how long their addresses may be good.

    The time is an hour, and no longer than the upload lasts.
    """

    parts: list[Planned]
    lifetime: timedelta


def planned(session: Session, settings: Settings, tenant: str, upload_id: str) -> Plan:
    """Return how the storage takes an upload.

    Raises:
        NotFound: It is not the tenant's.
        Conflict: Bytes have come to the gateway already, or all of them are here.
    """
    row = resumable.find(session, tenant, upload_id)
    resumable.require_offset(row, 0)
    left = row.expires_at - leases.now(session)
    return Plan(_parts(settings, row), max(min(left, _ADDRESS_LIFETIME), _LEAST_LIFETIME))


def missing(parts: Sequence[Planned], arrived: Mapping[str, Arrived]) -> list[Planned]:
    """Return the parts that the storage does not have in full."""
    return [part for part in parts if _size(arrived, part.key) != part.size_bytes]


def complete(
    session: Session,
    settings: Settings,
    tenant: str,
    upload_id: str,
    arrived: Mapping[str, Arrived],
    sent: Sequence[SentPart],
) -> Upload:
    """Note that the storage has all parts of an upload; again is fine.

    Raises:
        NotFound: It is not the tenant's.
        Conflict: A part is missing, has another size, or is not the one that was sent.
        Invalid: No part begins where one is said to.
    """
    row = resumable.find(session, tenant, upload_id, lock=True)
    if row.offset < row.length:
        resumable.require_offset(row, 0)
        parts = _parts(settings, row)
        _require_whole(parts, arrived)
        _require_same(parts, arrived, sent)
        session.add_all(
            UploadPartRow(
                upload_id=row.id,
                start=part.start,
                size_bytes=part.size_bytes,
                sha256="",
                key=part.key,
            )
            for part in parts
        )
        row.offset, row.parts = row.length, len(parts)
        session.flush()
    return resumable.view(settings, row)


def _parts(settings: Settings, row: UploadRow) -> list[Planned]:
    """Return the parts, as many as there may be at most; the upload alone decides which."""
    size = max(settings.upload.direct_part_bytes, -(-row.length // _MOST_PARTS))
    return [
        Planned(start, min(size, row.length - start), f"{parts_prefix(row.id)}/{start:015}")
        for start in range(0, row.length, size)
    ]


def _require_whole(parts: Sequence[Planned], arrived: Mapping[str, Arrived]) -> None:
    lacking = missing(parts, arrived)
    if lacking:
        first = lacking[0]
        size = _size(arrived, first.key)
        raise Conflict(
            f"{len(lacking)} of {len(parts)} parts are not in the storage in full: the one at byte"
            f" {first.start} has {size or 0} of its {first.size_bytes} bytes. Send them again."
        )


def _require_same(
    parts: Sequence[Planned], arrived: Mapping[str, Arrived], sent: Sequence[SentPart]
) -> None:
    keys = {part.start: part.key for part in parts}
    for index, part in enumerate(sent):
        if part.start not in keys:
            fault = FieldError(pointer=f"#/parts/{index}/start", detail="no part begins there")
            raise Invalid(f"No part of the upload begins at byte {part.start}.", errors=[fault])
        etag = arrived[keys[part.start]].etag
        if etag is not None and etag.strip('"') != part.etag.strip('"'):
            raise Conflict(
                f"The part at byte {part.start} was replaced after it was sent: its ETag is {etag}."
                " Send it again."
            )


def _size(arrived: Mapping[str, Arrived], key: str) -> int | None:
    return arrived[key].size_bytes if key in arrived else None
