"""API keys; only their hashes are stored."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, func, or_, select, text, update
from sqlalchemy.orm import Session

from app.store.tables import ApiKeyRow


class Valid(NamedTuple):
    """The tenant and the scopes of a key, and whether its use was noted within the hour."""

    tenant: str
    scopes: Sequence[str]
    noted: bool


# Built once: every request needs it, and building a statement costs more than running it.
_NOTED = func.coalesce(ApiKeyRow.used_at > func.now() - text("interval '1 hour'"), False)
_VALID = select(ApiKeyRow.tenant, ApiKeyRow.scopes, _NOTED).where(
    ApiKeyRow.hash == bindparam("hash"),
    ApiKeyRow.revoked_at.is_(None),
    or_(ApiKeyRow.expires_at.is_(None), ApiKeyRow.expires_at > func.now()),
)


def valid(connection: Connection, key_hash: bytes) -> Valid | None:
    """Return what the key with this hash allows, unless it is revoked or expired."""
    row = connection.execute(_VALID, {"hash": key_hash}).one_or_none()
    return row and Valid(*row)


def note_use(session: Session, key_hash: bytes) -> None:
    """Note that a key is used, once an hour; requests at the same time note it once."""
    used = update(ApiKeyRow).where(ApiKeyRow.hash == key_hash, ~_NOTED)
    session.execute(used.values(used_at=func.now()))


def named(session: Session, key_hash: bytes) -> str | None:
    """Return the id of the key with this hash, unless it is revoked or expired."""
    query = select(ApiKeyRow.id).where(
        ApiKeyRow.hash == key_hash,
        ApiKeyRow.revoked_at.is_(None),
        or_(ApiKeyRow.expires_at.is_(None), ApiKeyRow.expires_at > func.now()),
    )
    return session.scalars(query).one_or_none()


def with_hash(session: Session, tenant: str, key_hash: bytes) -> ApiKeyRow | None:
    """Return the tenant's key with this hash, whatever its state."""
    query = select(ApiKeyRow).where(ApiKeyRow.hash == key_hash, ApiKeyRow.tenant == tenant)
    return session.scalars(query).one_or_none()


def of_tenant(session: Session, tenant: str) -> Sequence[ApiKeyRow]:
    """Return the keys of a tenant, newest first."""
    query = select(ApiKeyRow).where(ApiKeyRow.tenant == tenant)
    return session.scalars(query.order_by(ApiKeyRow.created_at.desc(), ApiKeyRow.id)).all()


def every(session: Session) -> Sequence[ApiKeyRow]:
    """Return all keys of all tenants, newest first."""
    return session.scalars(
        select(ApiKeyRow).order_by(ApiKeyRow.created_at.desc(), ApiKeyRow.id)
    ).all()


def revoke(session: Session, key_id: str) -> bool:
    """Revoke a key from now on; return False if there is no such key."""
    row = session.get(ApiKeyRow, key_id, with_for_update=True)
    if row is None:
        return False
    row.revoked_at = row.revoked_at or func.now()
    return True
