"""How long what was measured on a machine counts; after that it is measured again."""

from datetime import timedelta

from sqlalchemy import delete, func, select, tuple_
from sqlalchemy.orm import Session, class_mapper

from app.store.tables import LayerTimeRow, PriceListRow

DAYS = 30
"""A machine is not the same for ever."""

OLDEST = func.now() - timedelta(days=DAYS)
"""What was measured at this time, or before it, counts no more."""


def forget_old(session: Session, table: type[LayerTimeRow] | type[PriceListRow]) -> None:
    """Delete what is too old, of all tenants; rows that a job writes stay for the next time."""
    key = class_mapper(table).primary_key
    old = select(*key).where(table.measured_at <= OLDEST).with_for_update(skip_locked=True)
    session.execute(
        delete(table).where(tuple_(*key).in_(old)).execution_options(synchronize_session=False)
    )
