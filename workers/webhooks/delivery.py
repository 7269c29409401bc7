"""Delivers a webhook: claims its row, calls the receiver, stores the outcome.

No database session is open during a call; a worker that dies during one leaves a lease that
expires.
"""

import random
import time
from functools import partial

import httpcore
import structlog

from app import tracing
from app.domain.webhooks import Attempt
from app.settings import Settings, Webhook
from app.store import deliveries
from app.store.deliveries import Claim
from app.store.session import Sessions, transaction
from workers.addresses import AddressRefused, NameUnknown
from workers.webhooks.post import post, signed_headers

RETRY_SECONDS = (5, 30, 120, 600, 3600, 3 * 3600, 6 * 3600, 12 * 3600)
"""How long to wait after the first failure, the second, …: about a day in all."""

JITTER = 0.2
"""Each wait is longer by up to this share: receivers that come back are not all called at once."""

LEASE_MARGIN_SECONDS = 10
"""The time that a lease lasts beyond the timeout of the call."""

log = structlog.get_logger(__name__)


def deliver(sessions: Sessions, settings: Settings, delivery_id: str, owner: str) -> bool:
    """Attempt a delivery if it is due and free; return whether an attempt was made.

    Args:
        sessions: Sessions of the job store.
        settings: Timeouts, and networks that may be called.
        delivery_id: Any delivery, also a finished or deleted one.
        owner: The worker's id.
    """
    seconds = settings.webhook.timeout_seconds + LEASE_MARGIN_SECONDS
    with transaction(sessions) as session:
        claim = deliveries.claim(session, delivery_id, owner, seconds, len(RETRY_SECONDS) + 1)
    if claim is None:
        return False
    attributes: tracing.Attributes = {"delivery.id": claim.id, "delivery.attempt": claim.attempt}
    with tracing.span(
        f"webhook {claim.event}", "client", parent=claim.traceparent, attributes=attributes
    ):
        attempt = _attempt(claim, settings.webhook)
        if attempt.error:
            tracing.note({"delivery.error": attempt.error})
    with transaction(sessions) as session:
        stored = deliveries.record(
            session, claim, attempt, _wait(claim.attempt), settings.webhook.disable_after_hours
        )
    log.info(
        "webhook attempted",
        delivery=claim.id,
        attempt=claim.attempt,
        response_status=attempt.response_status,
        error=attempt.error,
        stored=stored,
    )
    return True


def _wait(attempt: int) -> float | None:
    if attempt > len(RETRY_SECONDS):
        return None
    return RETRY_SECONDS[attempt - 1] * random.uniform(1, 1 + JITTER)  # noqa: S311 (no secret)


def _attempt(claim: Claim, webhook: Webhook) -> Attempt:
    headers = signed_headers(claim.message_id, claim.at, claim.payload, claim.secrets)
    ended = partial(_ended, claim, time.perf_counter())
    try:
        status = post(
            claim.url, headers, claim.payload, webhook.allowed_networks, webhook.timeout_seconds
        )
    except (TimeoutError, httpcore.TimeoutException):
        return ended(None, f"timeout: no complete answer within {webhook.timeout_seconds:g} s")
    except AddressRefused:
        return ended(
            None,
            "refused: the host has no public address. Whoever runs the service can admit its"
            " network with WEBHOOK_ALLOWED_NETWORKS",
        )
    except NameUnknown:
        return ended(None, "the host's name does not resolve")
    except httpcore.ConnectError as error:
        return ended(None, f"no connection: {error}"[:200])
    except (httpcore.NetworkError, httpcore.ProtocolError):
        # Without the error's text: it quotes what the receiver sent.
        return ended(None, "the connection broke before an HTTP answer was complete")
    return ended(status, _fault(status))


def _ended(claim: Claim, started: float, status: int | None, error: str | None) -> Attempt:
    duration_ms = round((time.perf_counter() - started) * 1000, 3)
    return Attempt(at=claim.at, response_status=status, duration_ms=duration_ms, error=error)


def _fault(status: int) -> str | None:
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        return f"redirect: {status} is not followed; set the webhook's url to the final address"
    return f"the receiver answered {status}"
