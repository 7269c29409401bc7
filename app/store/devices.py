"""Devices of tenants: registered by their agents, known by name and by token."""

from sqlalchemy import Select, func, select, update
from sqlalchemy.orm import Session

from app.domain import ids
from app.domain.devices import DeviceRequest
from app.store.tables import DeviceRow, MeasurementRow


def register(session: Session, tenant: str, asked: DeviceRequest, token_hash: bytes) -> DeviceRow:
    """Store a device, or what is new of it; the agent that it had before may not call any more.

    What that agent had claimed waits again. The caller has locked the tenant's devices.
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
        claimed = (MeasurementRow.device_id == row.id) & (MeasurementRow.state == "running")
        session.execute(
            update(MeasurementRow)
            .where(claimed)
            .values(state="queued", lease_owner=None, lease_expires_at=None)
        )
    session.flush()
    session.refresh(row)
    return row


def lock_all(session: Session, tenant: str) -> int:
    """Return how many devices a tenant has; another count waits until this transaction ends."""
    lock = select(func.pg_advisory_xact_lock(func.hashtextextended(f"devices:{tenant}", 0)))
    session.execute(lock)
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


def forget(session: Session, row: DeviceRow) -> None:
    """Delete a device. What it has measured stays; what it has not will not be."""
    unmeasured = (MeasurementRow.device_id == row.id) & MeasurementRow.state.in_(
        ["queued", "running"]
    )
    ended = {
        "state": "failed",
        "problem": "The device was deleted before it had measured the file.",
        "finished_at": func.clock_timestamp(),
        "lease_token": MeasurementRow.lease_token + 1,
    }
    session.execute(update(MeasurementRow).where(unmeasured).values(**ended))
    session.delete(row)
