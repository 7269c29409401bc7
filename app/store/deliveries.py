"""Webhook deliveries: rows written in the transaction of what they tell about, then attempted.

Whoever attempts one claims it first, with a lease and a fencing token; a deliverer that dies
leaves a lease that runs out, and the row is due again: at least once, never lost.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, Double, and_, cast, func, literal, or_, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from app.domain import ids
from app.domain.webhooks import Attempt
from app.store.tables import DeliveryRow, Json, WebhookRow

MAX_LOG = 50
"""Attempts that are kept of a delivery; redeliveries push out the oldest."""

DUE_PER_WEBHOOK = 4
"""Of one webhook at one time, so that a receiver that hangs does not hold up the others."""

DUE_PER_TENANT = 8
"""Of one tenant of weight 1 at one time: its many receivers that hang hold up nobody else's."""

MAX_PAYLOAD = 20_000
"""Bytes of a payload that tells about a job or a model."""

_LONG = frozenset({"steps", "inputs", "outputs", "operators", "notes", "untrainable"})
"""Fields that are left out of a payload that is too long."""

GONE = 410

_ALIKE: Mapping[str, float] = {}


@dataclass(frozen=True)
class Claim:
    """A delivery that is this worker's to attempt, and all that an attempt needs."""

    id: str
    token: int
    attempt: int
    """Counts from 1."""
    webhook_id: str
    message_id: str
    url: str
    payload: str
    secrets: tuple[str, ...] = field(repr=False)
    at: datetime
    """By the database's clock."""


def enqueue(session: Session, tenant: str, event: str, job_id: str | None, about: Json) -> None:
    """Write one pending delivery for each enabled webhook that wants ``event``.

    Args:
        session: The transaction in which the event happened.
        tenant: Whose webhooks are told.
        event: Such as ``job.succeeded``.
        job_id: The job that it is about, whose one-off webhook is told too; None for a model.
        about: The payload's ``data``: the job or the model. Where it is too long to be posted, long
            fields are null and ``problem`` keeps its head alone; the resource has the rest.
    """
    hooks = session.scalars(
        select(WebhookRow).where(
            WebhookRow.tenant == tenant,
            WebhookRow.enabled,
            WebhookRow.events.contains([event]),
            or_(WebhookRow.job_id.is_(None), WebhookRow.job_id == job_id),
        )
    )
    for hook in hooks:
        session.add(delivery(hook, event, job_id, _short(about)))


def delivery(hook: WebhookRow, event: str, job_id: str | None, data: Json) -> DeliveryRow:
    """Return a fresh pending delivery; its payload is fixed now, byte for byte."""
    payload = {"type": event, "timestamp": datetime.now(UTC).isoformat(), "data": data}
    return DeliveryRow(
        id=ids.new("dlv"),
        tenant=hook.tenant,
        webhook_id=hook.id,
        job_id=job_id,
        event=event,
        message_id=ids.new("msg"),
        payload=_compact(payload),
    )


def due(session: Session, limit: int, weights: Mapping[str, float] = _ALIKE) -> Sequence[str]:
    """Return deliveries whose time has come and that nobody holds.

    Each tenant's oldest come before any tenant's second oldest, and so on, where what a tenant has
    held already counts, and all of it is divided by its weight. Its webhooks take turns alike.
    A webhook of which ``DUE_PER_WEBHOOK`` are held has to wait, and so has a tenant with
    ``DUE_PER_TENANT``.

    Args:
        session: Of the job store.
        limit: How many at most.
        weights: Of tenants; 1 where there is none.
    """
    free = and_(*_free())
    held = and_(DeliveryRow.status == "pending", DeliveryRow.lease_expires_at >= func.now())
    oldest = (free.asc(), DeliveryRow.not_before)
    of_webhook = func.row_number().over(partition_by=DeliveryRow.webhook_id, order_by=oldest)
    by_webhook = (
        select(
            DeliveryRow.id,
            DeliveryRow.tenant,
            DeliveryRow.not_before,
            free.label("free"),
            of_webhook.label("rank"),
        )
        .where(or_(free, held))
        .subquery()
    )
    of_tenant = func.row_number().over(
        partition_by=by_webhook.c.tenant,
        order_by=(by_webhook.c.free, by_webhook.c.rank, by_webhook.c.not_before),
    )
    weight = func.coalesce(
        cast(literal(dict(weights), JSONB)[by_webhook.c.tenant].astext, Double), 1.0
    )
    ranked = (
        select(
            by_webhook.c.id,
            by_webhook.c.free,
            by_webhook.c.not_before,
            (of_tenant / weight).label("share"),
        )
        .where(by_webhook.c.rank <= DUE_PER_WEBHOOK)
        .subquery()
    )
    return session.scalars(
        select(ranked.c.id)
        .where(ranked.c.free, ranked.c.share <= DUE_PER_TENANT)
        .order_by(ranked.c.share, ranked.c.not_before)
        .limit(limit)
    ).all()


def due_of(session: Session, job_id: str) -> Sequence[str]:
    """Return the deliveries about a job whose time has come and that nobody holds."""
    return session.scalars(
        select(DeliveryRow.id).where(DeliveryRow.job_id == job_id, *_free()).limit(100)
    ).all()


def claim(
    session: Session, delivery_id: str, owner: str, seconds: float, max_attempts: int
) -> Claim | None:
    """Take a due delivery for ``seconds``; return None where there is nothing to attempt.

    A delivery whose webhook is disabled, or whose attempts are used up (the last deliverers died),
    ends here as failed, with the reason in its log.
    """
    row = session.scalars(
        select(DeliveryRow)
        .where(DeliveryRow.id == delivery_id, *_free())
        .with_for_update(skip_locked=True)
    ).one_or_none()
    if row is None:
        return None
    now = session.execute(select(func.now())).scalar_one()
    hook = session.get_one(WebhookRow, row.webhook_id)
    if row.lease_owner is not None:
        _log(row, _unsent(now, "the deliverer stopped before the attempt ended"))
    if not hook.enabled:
        _log(row, _unsent(now, f"not sent: the webhook is disabled ({hook.disabled_reason})"))
    if not hook.enabled or row.attempts >= max_attempts:
        _release(row)
        row.status = "failed"
        return None
    row.lease_token += 1
    row.lease_owner = owner
    row.lease_expires_at = now + timedelta(seconds=seconds)
    row.attempts += 1
    return Claim(
        id=row.id,
        token=row.lease_token,
        attempt=row.attempts,
        webhook_id=hook.id,
        message_id=row.message_id,
        url=hook.url,
        payload=row.payload,
        secrets=_valid_secrets(hook, now),
        at=now,
    )


def record(
    session: Session,
    claimed: Claim,
    attempt: Attempt,
    retry_seconds: float | None,
    disable_after_hours: float,
) -> bool:
    """Store how an attempt ended; return False if another deliverer took over meanwhile.

    Args:
        session: A transaction.
        claimed: What ``claim`` returned.
        attempt: Delivered if it has no ``error``.
        retry_seconds: When to try again after a failure; None for never.
        disable_after_hours: A webhook that has failed for so long is disabled.
    """
    hook = _lock_webhook(session, claimed.webhook_id)
    row = session.scalars(
        select(DeliveryRow)
        .where(DeliveryRow.id == claimed.id, DeliveryRow.lease_token == claimed.token)
        .with_for_update()
    ).one_or_none()
    if hook is None or row is None:
        return False
    _release(row)
    _log(row, attempt)
    if attempt.error is None:
        row.status = "delivered"
        hook.failing_since = None
        return True
    now = session.execute(select(func.now())).scalar_one()
    _judge(hook, attempt, now, timedelta(hours=disable_after_hours))
    if retry_seconds is None or not hook.enabled:
        row.status = "failed"
    else:
        row.not_before = now + timedelta(seconds=retry_seconds)
    return True


def again(row: DeliveryRow) -> None:
    """Make a delivery due now, with all its attempts before it and under the same message id."""
    row.status = "pending"
    row.attempts = 0
    row.not_before = func.now()


def _compact(data: Json) -> str:
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False)


def _short(about: Json) -> Json:
    envelope = 200
    if len(_compact(about).encode()) + envelope <= MAX_PAYLOAD:
        return about
    short = {name: None if name in _LONG else value for name, value in about.items()}
    if about.get("problem") is not None:
        problem = about["problem"]
        head = {key: problem[key] for key in ("type", "title", "status")}
        short["problem"] = {**head, "detail": problem["detail"][:1000]}
    return short


def _free() -> tuple[ColumnElement[bool], ...]:
    return (
        DeliveryRow.status == "pending",
        DeliveryRow.not_before <= func.now(),
        or_(DeliveryRow.lease_expires_at.is_(None), DeliveryRow.lease_expires_at < func.now()),
    )


def _release(row: DeliveryRow) -> None:
    row.lease_owner = None
    row.lease_expires_at = None


def _log(row: DeliveryRow, attempt: Attempt) -> None:
    row.log = [*row.log, attempt.model_dump(mode="json")][-MAX_LOG:]


def _unsent(at: datetime, reason: str) -> Attempt:
    return Attempt(at=at, response_status=None, duration_ms=None, error=reason)


def _valid_secrets(hook: WebhookRow, now: datetime) -> tuple[str, ...]:
    expires = hook.previous_secret_expires_at
    if hook.previous_secret is not None and expires is not None and expires > now:
        return hook.secret, hook.previous_secret
    return (hook.secret,)


def _lock_webhook(session: Session, webhook_id: str) -> WebhookRow | None:
    """Lock the webhook before its delivery: so does a deletion, and they cannot deadlock."""
    return session.scalars(
        select(WebhookRow).where(WebhookRow.id == webhook_id).with_for_update(key_share=True)
    ).one_or_none()


def _judge(hook: WebhookRow, attempt: Attempt, now: datetime, patience: timedelta) -> None:
    hook.failing_since = hook.failing_since or now
    if not hook.enabled:
        return
    if attempt.response_status == GONE:
        hook.enabled = False
        hook.disabled_reason = "the receiver answered 410 Gone"
    elif now - hook.failing_since >= patience:
        hook.enabled = False
        hook.disabled_reason = f"every delivery failed since {hook.failing_since.isoformat()}"
