"""Signatures of webhooks, as https://www.standardwebhooks.com defines them."""

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Mapping

from planish.errors import InvalidSignature
from planish.types import Message

_TOLERANCE_S = 300
"""A message whose time differs by more from ours may be a replay."""


def verify(body: bytes | str, headers: Mapping[str, str], secret: str) -> Message:
    """Return the message of a webhook whose signature is good.

    Args:
        body: of the request, byte for byte as it came.
        headers: of the request, their names in any case.
        secret: ``whsec_…``, as the webhook's creation or rotation returned it.

    Raises:
        InvalidSignature: it was not sent by the service, was changed, or is older than 5 minutes.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    missing = [name for name in _HEADERS if name not in lower]
    if missing:
        raise InvalidSignature(f"the request has no header {missing[0]}")
    message_id, sent_at, signatures = (lower[name] for name in _HEADERS)
    if not sent_at.isdecimal() or abs(time.time() - int(sent_at)) > _TOLERANCE_S:
        raise InvalidSignature(f"the message's time {sent_at!r} is not within 5 minutes of ours")
    content = body.encode() if isinstance(body, str) else body
    signed = b".".join((message_id.encode(), sent_at.encode(), content))
    wanted = base64.b64encode(hmac.digest(_key(secret), signed, hashlib.sha256)).decode()
    versions = (signature.partition(",") for signature in signatures.split())
    if not any(
        version == "v1" and hmac.compare_digest(value.encode(), wanted.encode())
        for version, _, value in versions
    ):
        raise InvalidSignature("no signature of the message is that of this secret")
    return Message.model_validate_json(content)


_HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")


def _key(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        raise InvalidSignature("the secret is not whsec_ and base64") from None
