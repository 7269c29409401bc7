"""Decides which webhook deliveries are next, when more are due than can be made at one time.

Tenants take turns, and so do the webhooks of a tenant. The next tenants are chosen first, by their
oldest deliveries, then their webhooks, and of each webhook its oldest deliveries: a backlog is not
read, however long it is.
"""

from collections.abc import Mapping, Sequence

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from app.domain import ids
from app.store.walks import distinct

DUE_PER_WEBHOOK = 4
"""Concurrent deliveries of one webhook, so that a hanging receiver does not delay others."""

DUE_PER_TENANT = 8
"""Concurrent deliveries of a tenant of weight 1: its hanging receivers delay no other tenant."""

_TENANTS_PER_DELIVERY = 4
"""Tenants that are looked at for each delivery that is asked for: some can have no more calls."""

_WEBHOOKS = 64
"""Webhooks of a tenant with pending deliveries that are looked at: so many from a random id on, and
so many from the first id on. Those of the oldest deliveries are always looked at."""

_ALIKE: Mapping[str, float] = {}

_PENDING = "deliveries WHERE status = 'pending'"
_FREE = "not_before <= now() AND (lease_expires_at IS NULL OR lease_expires_at < now())"
_HELD = "lease_expires_at > now()"
_OF_TENANT = f"{_PENDING} AND tenant = chosen.tenant"
_OF_WEBHOOK = f"{_PENDING} AND tenant = webhook.tenant AND webhook_id = webhook.webhook_id"

_DUE = text(f"""
    WITH chosen AS MATERIALIZED (
        SELECT waiting.tenant, weight, held
        FROM ({distinct("tenant", _PENDING)}) AS waiting
        CROSS JOIN LATERAL (
            SELECT coalesce((:weights ->> waiting.tenant)::float8, 1) AS weight
        ) AS weights
        CROSS JOIN LATERAL (
            SELECT count(*) AS held FROM {_PENDING} AND tenant = waiting.tenant AND {_HELD}
        ) AS calls
        CROSS JOIN LATERAL (
            SELECT not_before FROM {_PENDING} AND tenant = waiting.tenant AND {_FREE}
            ORDER BY not_before LIMIT 1
        ) AS oldest
        WHERE held < greatest(:per_tenant * weight, 1)
        ORDER BY (held + 1) / weight, not_before LIMIT :tenants
    ), webhook AS MATERIALIZED (
        SELECT chosen.*, webhook_id
        FROM chosen CROSS JOIN LATERAL (
            (SELECT webhook_id FROM {_OF_TENANT} AND {_FREE} ORDER BY not_before LIMIT :limit)
            UNION
            ({distinct("webhook_id", _OF_TENANT, ":start", _WEBHOOKS)})
            UNION
            ({distinct("webhook_id", _OF_TENANT, limit=_WEBHOOKS)})
        ) AS found
    ), ranked AS (
        SELECT delivery.*, tenant, weight, held, row_number() OVER (
            PARTITION BY tenant ORDER BY place, not_before
        ) AS number
        FROM webhook
        CROSS JOIN LATERAL (SELECT count(*) AS busy FROM {_OF_WEBHOOK} AND {_HELD}) AS calls
        CROSS JOIN LATERAL (
            SELECT id, not_before, busy + row_number() OVER (ORDER BY not_before) AS place
            FROM {_OF_WEBHOOK} AND {_FREE}
            ORDER BY not_before LIMIT greatest(:per_webhook - busy, 0)
        ) AS delivery
    )
    SELECT id FROM ranked
    WHERE held + number <= greatest(:per_tenant * weight, 1)
    ORDER BY (held + number) / weight, not_before LIMIT :limit
""").bindparams(bindparam("weights", type_=JSONB))  # noqa: S608 (the rows are named here)


def due(session: Session, limit: int, weights: Mapping[str, float] = _ALIKE) -> Sequence[str]:
    """Return the deliveries that are due and not held by a worker.

    Tenants take turns: the oldest delivery of each tenant comes before the second oldest of any.
    Deliveries that a worker holds already count as turns, and turns are divided by the tenant's
    weight. The webhooks of a tenant take turns in the same way. A webhook with ``DUE_PER_WEBHOOK``
    held deliveries has to wait, and so has a tenant with ``DUE_PER_TENANT`` times its weight; but
    every tenant may have one.

    Args:
        session: A session of the job store.
        limit: The largest number of deliveries.
        weights: The weights of tenants; 1 by default.
    """
    values = {
        "limit": limit,
        "weights": dict(weights),
        "tenants": limit * _TENANTS_PER_DELIVERY,
        "per_tenant": DUE_PER_TENANT,
        "per_webhook": DUE_PER_WEBHOOK,
        "start": ids.new("whk"),
    }
    return session.scalars(_DUE, values).all()
