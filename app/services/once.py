"""Answers that are given once: a request that is sent again under its key gets the stored one."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.domain.problems import IdempotencyMismatch, RequestInFlight
from app.store import idempotency
from app.store.idempotency import Key

__all__ = ["Given", "Key", "given", "keep"]


@dataclass(frozen=True)
class Given:
    """An answer that was given before."""

    status: int
    body: bytes


def given(
    session: Session, key: Key, body_sha256: bytes, hours: float, *, waits: bool = False
) -> Given | None:
    """Lock a key until the transaction ends; return the answer that was given under it, if any.

    Args:
        session: Of the transaction in which the answer is made.
        key: Of the request.
        body_sha256: Stands for all that the request asks.
        hours: How long an answer counts.
        waits: Whether a request waits until the first one with its key has ended, or is refused.

    Raises:
        RequestInFlight: The first request with this key has not finished.
        IdempotencyMismatch: The first request with this key had another body.
    """
    if not idempotency.lock(session, key, waits=waits):
        raise RequestInFlight(
            "The first request with this Idempotency-Key has not finished: try again.",
            headers={"Retry-After": "1"},
        )
    found = idempotency.answer(session, key, hours)
    if found is None:
        return None
    if found.body_sha256 != body_sha256:
        raise IdempotencyMismatch(
            "This Idempotency-Key came with another body before: use a new key for a new request."
        )
    return Given(found.status, found.body)


def keep(session: Session, key: Key, body_sha256: bytes, status: int, body: bytes) -> None:
    """Store an answer in the transaction that made it, which has locked its key."""
    idempotency.store(session, key, body_sha256, status, body)
