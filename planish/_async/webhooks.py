"""``client.webhooks``."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from planish import signatures
from planish._async.http import AsyncTransport
from planish._requests import id_of
from planish.types import Delivery, Message, Webhook


class AsyncWebhooks:
    """The addresses that are told how jobs end; called, it yields them."""

    def __init__(self, http: AsyncTransport) -> None:
        self._http = http

    def __call__(self) -> AsyncIterator[Webhook]:
        """Yield all of them, newest first."""
        return self.list()

    async def list(self) -> AsyncIterator[Webhook]:
        """Yield all of them, newest first."""
        async for item in self._http.items("/v1/webhooks"):
            yield Webhook.model_validate(item)

    async def create(
        self, url: str, *, events: Sequence[str] | None = None, description: str | None = None
    ) -> Webhook:
        """Have ``url`` told how jobs end; the answer holds the signing secret, once."""
        body: dict[str, Any] = {"url": url, "description": description}
        if events is not None:
            body["events"] = [*events]
        return await self._http.post("/v1/webhooks", Webhook, body)

    async def get(self, webhook: Webhook | str) -> Webhook:
        """Return one."""
        return await self._http.get(f"/v1/webhooks/{id_of(webhook)}", Webhook)

    async def update(self, webhook: Webhook | str, **changes: Any) -> Webhook:
        """Change what is given: ``url``, ``events``, ``description``, ``enabled``."""
        path = f"/v1/webhooks/{id_of(webhook)}"
        response = await self._http.request("PATCH", path, json=changes)
        return Webhook.model_validate_json(response.content)

    async def delete(self, webhook: Webhook | str) -> None:
        """Forget it, and what was sent to it."""
        await self._http.request("DELETE", f"/v1/webhooks/{id_of(webhook)}")

    async def rotate(self, webhook: Webhook | str) -> Webhook:
        """Make a new secret, which the answer holds, once; the old one also signs for 24 hours."""
        return await self._http.post(f"/v1/webhooks/{id_of(webhook)}/rotate", Webhook)

    async def test(self, webhook: Webhook | str) -> Delivery:
        """Have ``webhook.test`` sent, signed like any other message."""
        return await self._http.post(f"/v1/webhooks/{id_of(webhook)}/test", Delivery)

    async def deliveries(self, webhook: Webhook | str) -> AsyncIterator[Delivery]:
        """Yield what was sent, newest first, with every attempt."""
        async for item in self._http.items(f"/v1/webhooks/{id_of(webhook)}/deliveries"):
            yield Delivery.model_validate(item)

    async def redeliver(self, webhook: Webhook | str, delivery: Delivery | str) -> Delivery:
        """Have a message sent again, under the same ``webhook-id``."""
        which = delivery if isinstance(delivery, str) else delivery.id
        path = f"/v1/webhooks/{id_of(webhook)}/deliveries/{which}/redeliver"
        return await self._http.post(path, Delivery)

    @staticmethod
    def verify(body: bytes | str, headers: Mapping[str, str], secret: str) -> Message:
        """Return the message that a receiver was sent, if its signature is good.

        Raises:
            InvalidSignature: it was not sent by the service, was changed, or is older than 5
                minutes.
        """
        return signatures.verify(body, headers, secret)
