"""Sessions of browsers that are logged in; only hashes of their tokens are stored."""

from typing import NamedTuple

from sqlalchemy import bindparam, delete, func, or_, select
from sqlalchemy.orm import Session

from app.store.tables import ApiKeyRow, BrowserSessionRow


class SessionRights(NamedTuple):
    """The tenant and the scopes of a session."""

    tenant: str
    scopes: list[str]
    key_id: str


_RIGHTS = (
    select(ApiKeyRow.tenant, ApiKeyRow.scopes, ApiKeyRow.id)
    .join(BrowserSessionRow, BrowserSessionRow.key_id == ApiKeyRow.id)
    .where(
        BrowserSessionRow.hash == bindparam("hash"),
        BrowserSessionRow.expires_at > func.now(),
        ApiKeyRow.revoked_at.is_(None),
        or_(ApiKeyRow.expires_at.is_(None), ApiKeyRow.expires_at > func.now()),
    )
)


def begin(session: Session, token_hash: bytes, key_id: str, hours: float) -> None:
    """Begin a session for a token with the rights of a key; delete expired sessions."""
    session.execute(delete(BrowserSessionRow).where(BrowserSessionRow.expires_at < func.now()))
    lasts = func.make_interval(0, 0, 0, 0, 0, 0, 3600 * hours)
    session.add(BrowserSessionRow(hash=token_hash, key_id=key_id, expires_at=func.now() + lasts))


def rights_of(session: Session, token_hash: bytes) -> SessionRights | None:
    """Return the tenant and scopes of a session, unless it or its key has expired."""
    row = session.execute(_RIGHTS, {"hash": token_hash}).one_or_none()
    return row and SessionRights(*row)


def end(session: Session, token_hash: bytes) -> None:
    """Delete a session."""
    session.execute(delete(BrowserSessionRow).where(BrowserSessionRow.hash == token_hash))
