"""Devices of tenants: registered by their agents, known by name and by token."""

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from app.domain import ids
from app.domain.devices import DeviceRequest
from app.store import locks
from app.store.tables import DeviceRow


def register(session: Session, tenant: str, asked: DeviceRequest, token_hash: bytes) -> DeviceRow:
    """Store a device, or what is new of it; the agent that it had before may not call any more.

    The caller has locked the tenant's devices.
    """
    described = {**asked.model_dump(exclude={"name"}), "token_hash": token_hash}
    row = named(session, tenant, asked.name)
    if row is None:
        row = DeviceRow(id=ids.new("dev"), tenant=tenant, name=asked.name, **described)
        session.add(row)
    else:
        for column, value in described.items():
            setattr(row, column, value)
        row.seen_at = func.clock_timestamp()
    session.flush()
    session.refresh(row)
    return row


def lock_all(session: Session, tenant: str) -> int:
    """Return how many devices a tenant has; another count waits until this transaction ends."""
    locks.take(session, f"devices:{tenant}")
    count = select(func.count()).select_from(DeviceRow).where(DeviceRow.tenant == tenant)
    return session.execute(count).scalar_one()


def of_tenant(tenant: str) -> Select[DeviceRow]:
    """Return the query of a tenant's devices."""
    return select(DeviceRow).where(DeviceRow.tenant == tenant)


def named(session: Session, tenant: str, name: str, *, keep: bool = False) -> DeviceRow | None:
    """Return a tenant's device by its name; ``keep`` holds off its deletion until commit."""
    query = of_tenant(tenant).where(DeviceRow.name == name)
    if keep:
        query = query.with_for_update(read=True, key_share=True)
    return session.scalars(query).one_or_none()


def note_seen(session: Session, row: DeviceRow) -> None:
    """Note that the device's agent has called."""
    row.seen_at = func.clock_timestamp()
    session.flush()
