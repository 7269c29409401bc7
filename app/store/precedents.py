"""Jobs that ended with figures, on models that are like another."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, Text, bindparam, func, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from app.store.tables import JobRow

MOST = 200
"""Jobs that are looked at, the latest ones."""

_LIKE = (
    select(
        JobRow.id,
        JobRow.model_id,
        JobRow.name,
        JobRow.request,
        JobRow.baseline,
        JobRow.compressed,
        JobRow.running_seconds,
    )
    .where(
        JobRow.tenant == bindparam("tenant"),
        JobRow.likeness == func.any(bindparam("keys", type_=ARRAY(Text))),
        JobRow.compressed.is_not(None),
    )
    .order_by(JobRow.finished_at.desc())
    .limit(MOST)
)


def of_like_models(
    session: Session, tenant: str, keys: Sequence[str]
) -> Sequence[Row[*tuple[Any, ...]]]:
    """Return the tenant's latest measured jobs on models of some likenesses, newest first."""
    return session.execute(_LIKE, {"tenant": tenant, "keys": list(keys)}).all()
