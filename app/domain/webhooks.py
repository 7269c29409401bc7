"""Webhooks: their addresses and events, and their deliveries."""

import base64
import binascii
from typing import Annotated, Literal, get_args

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    Field,
    HttpUrl,
    SecretStr,
)

from app.domain.frozen import Asked

WebhookEvent = Literal[
    "job.succeeded",
    "job.failed",
    "job.cancelled",
    "job.started",
    "model.ready",
    "model.rejected",
    "search.improved",
]

EVENTS: tuple[WebhookEvent, ...] = get_args(WebhookEvent)

JOB_ENDED: tuple[WebhookEvent, ...] = ("job.succeeded", "job.failed", "job.cancelled")
"""The events of a webhook that names none."""

TEST_EVENT = "webhook.test"
"""Sent on request alone; not subscribed to."""

SECRET_PREFIX = "whsec_"  # noqa: S105 (it is what secrets begin with)


def _without_credentials(url: HttpUrl) -> HttpUrl:
    if url.username or url.password:
        raise ValueError("must not carry a user name or password: signatures tell who is calling")
    return url


def _decodable(secret: SecretStr) -> SecretStr:
    value = secret.get_secret_value()
    try:
        key = base64.b64decode(value.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not value.startswith(SECRET_PREFIX) or not 24 <= len(key) <= 64:
        raise ValueError("must be 'whsec_' followed by 24 to 64 bytes in base64")
    return secret


WebhookUrl = Annotated[HttpUrl, Field(max_length=2048), AfterValidator(_without_credentials)]
SigningSecret = Annotated[SecretStr, AfterValidator(_decodable)]
Events = Annotated[list[WebhookEvent], Field(min_length=1, max_length=len(EVENTS))]
Description = Annotated[str, Field(max_length=500)]


class WebhookRequest(Asked):
    """The body of ``POST /v1/webhooks``."""

    url: WebhookUrl
    events: Events = Field(default=list(JOB_ENDED))
    description: Description | None = None


class WebhookChange(Asked):
    """The body of ``PATCH /v1/webhooks/{id}``: what is left out, or null, stays as it is."""

    url: WebhookUrl | None = None
    events: Events | None = None
    description: Description | None = Field(default=None, description="Null clears it.")
    enabled: bool | None = Field(
        default=None, description="Enabling clears the reason for which it was disabled."
    )


class Webhook(BaseModel):
    """An address to tell, as clients see it."""

    id: str
    url: str
    events: list[WebhookEvent]
    description: str | None
    enabled: bool
    disabled_reason: str | None = Field(default=None, exclude_if=lambda value: value is None)
    secret: str | None = Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="On creation and rotation only.",
    )
    created_at: AwareDatetime


class Attempt(BaseModel):
    """One try to deliver, and how it ended."""

    at: AwareDatetime
    response_status: int | None
    duration_ms: float | None
    error: str | None = Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="Why it counts as failed; never what the receiver wrote.",
    )


class Delivery(BaseModel):
    """One message to one webhook, as clients see it."""

    id: str
    event: str
    job: str | None
    status: Literal["pending", "delivered", "failed"]
    attempts: list[Attempt]
    next_attempt_at: AwareDatetime | None
