"""API keys; only their hashes are here."""

from collections.abc import Sequence

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from app.store.tables import ApiKeyRow


def valid(session: Session, key_hash: bytes) -> ApiKeyRow | None:
    """Return the key with this hash, unless it is revoked or expired."""
    return session.scalars(
        select(ApiKeyRow).where(
            ApiKeyRow.hash == key_hash,
            ApiKeyRow.revoked_at.is_(None),
            or_(ApiKeyRow.expires_at.is_(None), ApiKeyRow.expires_at > func.now()),
        )
    ).one_or_none()


def every(session: Session) -> Sequence[ApiKeyRow]:
    """Return all keys of all tenants, newest first."""
    return session.scalars(
        select(ApiKeyRow).order_by(ApiKeyRow.created_at.desc(), ApiKeyRow.id)
    ).all()


def revoke(session: Session, key_id: str) -> bool:
    """Make a key worthless from now on; return False if there is no such key."""
    row = session.get(ApiKeyRow, key_id, with_for_update=True)
    if row is None:
        return False
    row.revoked_at = row.revoked_at or func.now()
    return True
