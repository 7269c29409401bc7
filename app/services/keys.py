"""API keys: created, shown once, found by their hash, revoked."""

import hashlib
import secrets
from datetime import datetime
from typing import Literal

from sqlalchemy.orm import Session

from app.domain import ids
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
) -> tuple[ApiKeyRow, str]:
    """Make a key for a tenant.

    Returns:
        Its row, and the key itself, which cannot be recovered later.
    """
    key = _PREFIX + secrets.token_urlsafe(32)
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


def digest(key: str) -> bytes:
    """Return the hash of a key; a key has 256 random bits, so a fast hash is enough."""
    return hashlib.sha256(key.encode()).digest()
