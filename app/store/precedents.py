"""Jobs that ended with figures, on models that are like another."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, Text, bindparam, func, select, true
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Session

from app.store.tables import JobRow, Json

MOST = 200
"""Jobs that are looked at, the latest ones."""

_KEYS = select(func.unnest(bindparam("keys", type_=ARRAY(Text))).label("key")).subquery()

_LATEST = (
    select(
        JobRow.id,
        JobRow.model_id,
        JobRow.name,
        JobRow.request,
        JobRow.baseline,
        JobRow.compressed,
        JobRow.evaluation["latency"].label("latency"),
        JobRow.running_seconds,
        JobRow.finished_at,
    )
    .where(
        JobRow.tenant == bindparam("tenant"),
        JobRow.likeness == _KEYS.c.key,
        JobRow.compressed.is_not(None),
    )
    .order_by(JobRow.finished_at.desc())
    .limit(MOST)
    .lateral()
)
"""The latest jobs of one key: the index has them in this order, so no other row is read."""

_LIKE = (
    select(_LATEST)
    .select_from(_KEYS)
    .join(_LATEST, true())
    .order_by(_LATEST.c.finished_at.desc())
    .limit(MOST)
)


_LATEST_OF_ONE = (
    select(JobRow.id, JobRow.name, JobRow.model_id, JobRow.request, JobRow.baseline,
           JobRow.compressed, JobRow.finished_at)
    .where(
        JobRow.tenant == bindparam("tenant"),
        JobRow.likeness == bindparam("key"),
        JobRow.compressed.is_not(None),
    )
    .order_by(JobRow.finished_at.desc())
    .limit(MOST)
    .subquery()
)  # fmt: skip


def of_same_steps(
    session: Session, tenant: str, key: str, model: str, steps: Sequence[Json]
) -> Sequence[Row[*tuple[Any, ...]]]:
    """Return those of the tenant's latest jobs on a model that had the same steps, newest first.

    ``key`` is the model's likeness.
    """
    latest = _LATEST_OF_ONE.c
    asked = latest.request["steps"] == bindparam("steps", type_=JSONB)
    query = select(_LATEST_OF_ONE).where(latest.model_id == bindparam("model"), asked)
    given = {"tenant": tenant, "key": key, "model": model, "steps": [*steps]}
    return session.execute(query.order_by(latest.finished_at.desc()), given).all()


def of_like_models(
    session: Session, tenant: str, keys: Sequence[str]
) -> Sequence[Row[*tuple[Any, ...]]]:
    """Return the tenant's latest measured jobs on models of some likenesses, newest first."""
    return session.execute(_LIKE, {"tenant": tenant, "keys": list(keys)}).all()
