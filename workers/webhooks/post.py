"""Sends one signed POST (https://www.standardwebhooks.com), bounded in time and bytes read."""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime
from urllib.parse import urlsplit

import httpcore
from standardwebhooks import Webhook

from app.domain.addresses import Network
from workers.addresses import CheckedBackend, trust

MAX_RESPONSE = 64 * 1024
"""Bytes of an answer's body that are read, and thrown away, before the connection is closed."""


def signed_headers(
    message_id: str, at: datetime, payload: str, secrets: Sequence[str]
) -> dict[str, str]:
    """Return the Standard Webhooks headers, with one signature for each secret."""
    signatures = [Webhook(secret).sign(message_id, at, payload) for secret in secrets]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def post(
    url: str, headers: dict[str, str], payload: str, admitted: Iterable[Network], seconds: float
) -> int:
    """Send ``payload`` to ``url`` and return the status of the answer; redirects are not followed.

    Args:
        url: With ``http`` or ``https``.
        headers: Sent beside those that HTTP needs.
        payload: A JSON text.
        admitted: Networks that may be called although they are not public.
        seconds: The time limit for name resolution, connection, request and answer together.

    Raises:
        TimeoutError: The answer was not complete in time.
        AddressRefused, NameUnknown: The host may not be called, or is not known.
        httpcore.NetworkError, httpcore.ProtocolError: There was no answer, or not in HTTP.
    """

    async def bounded() -> int:
        async with asyncio.timeout(seconds):
            return await _exchange(url, headers, payload.encode(), CheckedBackend(admitted))

    return asyncio.run(bounded())


async def _exchange(url: str, headers: dict[str, str], body: bytes, backend: CheckedBackend) -> int:
    sent = {
        "Host": urlsplit(url).netloc,
        "Content-Type": "application/json",
        "User-Agent": "planish",
        "Connection": "close",
        **headers,
    }
    async with (
        httpcore.AsyncConnectionPool(ssl_context=trust(), network_backend=backend) as pool,
        pool.stream("POST", url, headers=list(sent.items()), content=body) as response,
    ):
        unread = MAX_RESPONSE
        async for part in response.aiter_stream():
            unread -= len(part)
            if unread <= 0:
                break
        return response.status
