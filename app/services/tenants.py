"""Tenants: deletes one with everything that it has, rows and bytes."""

from typing import NamedTuple

from app.blobs import Blobs, Incoming
from app.store import blob_rows, tenants
from app.store.session import Sessions, transaction


class Deleted(NamedTuple):
    """What was deleted of a tenant."""

    rows: int
    blobs: int
    left: int
    """Blobs that work of others, which goes on, may be about to use; they are collected later."""


def delete(sessions: Sessions, blobs: Blobs, tenant: str) -> Deleted:
    """Delete all rows of a tenant, then the bytes that nobody else refers to.

    It may be repeated where it was interrupted: what is unreferenced is collected in any case.

    Args:
        sessions: Of the job store.
        blobs: Where the bytes are.
        tenant: Whose rows.
    """
    with transaction(sessions) as session:
        digests = blob_rows.of_tenant(session, tenant)
        parts = tenants.part_keys(session, tenant)
        uploads = tenants.upload_ids(session, tenant)
    rows = 0
    while True:
        with transaction(sessions) as session:
            count = tenants.delete_portion(session, tenant)
        if not count:
            break
        rows += count
    for key in parts:
        blobs.discard(Incoming("", 0, key))
    for upload_id in uploads:
        blobs.forget_arrived(upload_id)
    with transaction(sessions) as session:
        quiet_since = blob_rows.quiet_since(session)
    deleted = 0
    for sha256 in digests:
        with transaction(sessions) as session:
            if blob_rows.forget(session, sha256, quiet_since):
                blobs.delete(sha256)
                deleted += 1
    with transaction(sessions) as session:
        left = blob_rows.unreferenced(session, digests)
    return Deleted(rows, deleted, left)
