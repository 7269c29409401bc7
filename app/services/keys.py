"""API keys: created, shown once, found by their hash, revoked."""

import hashlib
import secrets
from base64 import urlsafe_b64encode
from datetime import datetime
from typing import Literal

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.domain import ids
from app.domain.problems import NotFound
from app.store import keys
from app.store.keys import Valid
from app.store.session import Sessions, transaction
from app.store.tables import ApiKeyRow

Scope = Literal["read", "write"]

SCOPES: tuple[Scope, ...] = ("read", "write")

_PREFIX = "plk_"


def create(
    session: Session,
    tenant: str,
    name: str,
    scopes: tuple[Scope, ...] = SCOPES,
    expires_at: datetime | None = None,
    secret: bytes | None = None,
) -> tuple[ApiKeyRow, str]:
    """Make a key for a tenant.

    Args:
        session: of the transaction that stores it.
        tenant: whose it is.
        name: of the program or person that uses it.
        scopes: what it may do.
        expires_at: until when it is valid; None: until it is revoked.
        secret: 256 bits that the key is made of: the same make the same key, which is stored once.
            Without them the key is random.

    Returns:
        Its row, and the key itself, which cannot be recovered later.
    """
    key = of_secret(secret or secrets.token_bytes(32))
    if (known := keys.with_hash(session, tenant, digest(key))) is not None:
        return known, key
    row = ApiKeyRow(
        id=ids.new("key"),
        tenant=tenant,
        name=name,
        hash=digest(key),
        scopes=list(scopes),
        expires_at=expires_at,
    )
    session.add(row)
    session.flush()
    return row, key


def of_secret(secret: bytes) -> str:
    """Return the key that is made of 256 bits."""
    return _PREFIX + urlsafe_b64encode(secret).decode().rstrip("=")


def listed(session: Session, tenant: str) -> list[ApiKeyRow]:
    """Return the tenant's keys."""
    return list(keys.of_tenant(session, tenant))


def revoke(session: Session, tenant: str, key_id: str) -> None:
    """Make a key of the tenant worthless, or raise NotFound."""
    if key_id not in {row.id for row in keys.of_tenant(session, tenant)}:
        raise NotFound(f"There is no key {key_id!r}.")
    keys.revoke(session, key_id)


def valid(reads: Engine, sessions: Sessions, key: str) -> Valid | None:
    """Return what a key allows, and note its use; None where it is unknown, expired or revoked.

    Args:
        reads: for the look-up, which every request needs.
        sessions: for the note, which is written once an hour.
        key: as the caller sent it.
    """
    with reads.connect() as connection:
        found = keys.valid(connection, digest(key))
    if found is not None and not found.noted:
        with transaction(sessions) as session:
            keys.note_use(session, digest(key))
    return found


def digest(key: str) -> bytes:
    """Return the hash of a key; a key has 256 random bits, so a fast hash is enough."""
    return hashlib.sha256(key.encode()).digest()
