"""Who is logged in with a browser: only hashes of the cookies' tokens are here."""

from typing import NamedTuple

from sqlalchemy import bindparam, delete, func, or_, select
from sqlalchemy.orm import Session

from app.store.tables import ApiKeyRow, BrowserSessionRow


class Known(NamedTuple):
    """Whose a session is, and what its key allows."""

    tenant: str
    scopes: list[str]
    key_id: str


_KNOWN = (
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
    """Let whoever holds a token in as the holder of a key; forget sessions that are over."""
    session.execute(delete(BrowserSessionRow).where(BrowserSessionRow.expires_at < func.now()))
    lasts = func.make_interval(0, 0, 0, 0, 0, 0, 3600 * hours)
    session.add(BrowserSessionRow(hash=token_hash, key_id=key_id, expires_at=func.now() + lasts))


def known(session: Session, token_hash: bytes) -> Known | None:
    """Return whose session this is, unless it or its key is over."""
    row = session.execute(_KNOWN, {"hash": token_hash}).one_or_none()
    return row and Known(*row)


def end(session: Session, token_hash: bytes) -> None:
    """Forget a session."""
    session.execute(delete(BrowserSessionRow).where(BrowserSessionRow.hash == token_hash))
