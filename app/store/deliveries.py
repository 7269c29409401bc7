"""Webhook deliveries: rows are written in the transaction of their event, then attempted.

A worker claims a row before an attempt, with a lease and a fencing token. If it dies, the lease
expires and the row is due again. So a delivery is made at least once, and never lost.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import Session

from app.domain import ids
from app.domain.webhooks import Attempt
from app.store import leases
from app.store.tables import DeliveryRow, Json, WebhookRow

MAX_LOG = 50
"""Attempts in the log of a delivery; redeliveries push out the oldest."""

MAX_PAYLOAD = 20_000
"""Bytes of a payload that tells about a job or a model."""

_LONG = frozenset({"steps", "inputs", "outputs", "operators", "notes", "untrainable"})
"""Fields that are left out of a payload that is too long."""

GONE = 410


@dataclass(frozen=True)
class Claim:
    """A claimed delivery, with everything that an attempt needs."""

    id: str
    token: int
    attempt: int
    """The number of the attempt, from 1."""
    webhook_id: str
    message_id: str
    url: str
    payload: str
    secrets: tuple[str, ...] = field(repr=False)
    at: datetime
    """The time of the claim, by the database's clock."""
    event: str
    traceparent: str | None
    """The span in which the event was."""


def enqueue(session: Session, tenant: str, event: str, job_id: str | None, about: Json) -> None:
    """Write one pending delivery for each enabled webhook that wants ``event``.

    Args:
        session: The transaction of the event.
        tenant: The tenant whose webhooks are notified.
        event: Such as ``job.succeeded``.
        job_id: The job of the event, whose one-off webhook is notified too; None for a model.
        about: The payload's ``data``: the job or the model. If it is too long to be posted, long
            fields are null and ``problem`` is reduced to its main fields; the resource has the
            rest.
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
    """Return a new pending delivery; its payload is serialised now and never changes."""
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


def due_of(session: Session, job_id: str) -> Sequence[str]:
    """Return the deliveries about a job that are due and not held by a worker."""
    return session.scalars(
        select(DeliveryRow.id).where(DeliveryRow.job_id == job_id, _waiting()).limit(100)
    ).all()


def claim(
    session: Session, delivery_id: str, owner: str, seconds: float, max_attempts: int
) -> Claim | None:
    """Claim a due delivery for ``seconds``; return None if there is nothing to attempt.

    A delivery whose webhook is disabled, or whose attempts are used up because workers died, ends
    here as failed, with the reason in its log.
    """
    row = session.scalars(
        select(DeliveryRow)
        .where(DeliveryRow.id == delivery_id, _waiting())
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
        leases.release(row)
        row.status = "failed"
        return None
    token = leases.take(session, row, owner, seconds)
    return Claim(
        id=row.id,
        token=token,
        attempt=row.attempts,
        webhook_id=hook.id,
        message_id=row.message_id,
        url=hook.url,
        payload=row.payload,
        secrets=_valid_secrets(hook, now),
        at=now,
        event=row.event,
        traceparent=row.traceparent,
    )


def record(
    session: Session,
    claimed: Claim,
    attempt: Attempt,
    retry_seconds: float | None,
    disable_after_hours: float,
) -> bool:
    """Store the outcome of an attempt; return False if another worker has taken over.

    Args:
        session: A session in a transaction.
        claimed: The claim that ``claim`` returned.
        attempt: The attempt; it succeeded if it has no ``error``.
        retry_seconds: When to try again after a failure; None for never.
        disable_after_hours: A webhook that has failed for this time is disabled.
    """
    hook = _lock_webhook(session, claimed.webhook_id)
    if hook is None:
        return False
    try:
        row = leases.hold(session, DeliveryRow, claimed.id, claimed.token)
    except leases.LeaseLost:
        return False
    leases.release(row)
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
    """Make a delivery due now, with its full number of attempts and the same message id."""
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


def _waiting() -> ColumnElement[bool]:
    is_pending = DeliveryRow.status == "pending"
    return and_(is_pending, leases.is_due(DeliveryRow), leases.is_available(DeliveryRow))


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
    """Lock the webhook before its delivery, as a deletion does, so that they cannot deadlock."""
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
