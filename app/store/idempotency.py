"""Stores answers for retries. Lock, work and answer share one transaction."""

import hashlib
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.store.tables import IdempotencyRow


@dataclass(frozen=True)
class Key:
    """The full identity of an Idempotency-Key."""

    tenant: str
    method: str
    path: str
    key: str


def lock(session: Session, key: Key, *, waits: bool = False) -> bool:
    """Lock the key until the transaction ends; return False if another request holds it.

    Args:
        session: of the transaction.
        key: to lock.
        waits: whether to wait until the other request has ended, in place of returning False.
    """
    named = f"{key.tenant}\0{key.method}\0{key.path}\0{key.key}".encode()
    number = int.from_bytes(hashlib.sha256(named).digest()[:8], signed=True)
    if waits:
        session.execute(select(func.pg_advisory_xact_lock(number)))
        return True
    return bool(session.scalar(select(func.pg_try_advisory_xact_lock(number))))


def answer(session: Session, key: Key, hours: float) -> IdempotencyRow | None:
    """Return the answer that was given under this key within ``hours``, if any."""
    return session.scalars(
        select(IdempotencyRow).where(
            IdempotencyRow.tenant == key.tenant,
            IdempotencyRow.method == key.method,
            IdempotencyRow.path == key.path,
            IdempotencyRow.key == key.key,
            IdempotencyRow.created_at
            > func.now() - func.make_interval(0, 0, 0, 0, 0, 0, hours * 3600),
        )
    ).one_or_none()


def store(session: Session, key: Key, body_sha256: bytes, status: int, body: bytes) -> None:
    """Store an answer; it replaces an expired one under the same key."""
    values = {"body_sha256": body_sha256, "status": status, "body": body}
    row = insert(IdempotencyRow).values(
        tenant=key.tenant, method=key.method, path=key.path, key=key.key, **values
    )
    session.execute(
        row.on_conflict_do_update(
            index_elements=["tenant", "method", "path", "key"],
            set_={**values, "created_at": func.now()},
        )
    )
