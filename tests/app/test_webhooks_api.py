"""``/v1/webhooks`` over HTTP, with deliveries to a real receiver."""

from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from app.services import keys
from app.settings import Settings
from app.store import delivery_turns
from app.store.session import Sessions, connect, sessions
from tests.gateway import serving
from tests.receiver import Receiver, receiver, status
from workers.webhooks.delivery import deliver

URL = "https://receiver.example/hook"


@dataclass(frozen=True)
class Service:
    """A gateway, its store, and two tenants' ways to it."""

    http: httpx.Client
    other: dict[str, str]
    store: Sessions
    settings: Settings

    def deliver(self) -> int:
        with self.store() as session:
            due = delivery_turns.due(session, 10)
        return sum(deliver(self.store, self.settings, each, "worker") for each in due)


@pytest.fixture
def service(database: str, redis_url: str, storage_url: str) -> Iterator[Service]:
    settings = Settings.model_validate(
        {
            "database": {"url": database},
            "broker": {"url": redis_url},
            "storage": {"url": storage_url},
            "auth": {"required": True},
            "webhook": {"allowed_networks": "127.0.0.0/8,::1/128", "timeout_seconds": 5},
        }
    )
    engine = connect(settings.database)
    store = sessions(engine)
    with store.begin() as session:
        _, own = keys.create(session, "acme", "own")
        _, other = keys.create(session, "other", "other")
    headers = {"Authorization": f"Bearer {own}"}
    with serving(settings) as url, httpx.Client(base_url=url, headers=headers, timeout=30) as http:
        yield Service(http, {"Authorization": f"Bearer {other}"}, store, settings)
    engine.dispose()


@pytest.fixture
def target() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


def test_a_webhook_from_creation_to_deletion(service: Service) -> None:
    answer = service.http.post("/v1/webhooks", json={"url": URL, "description": "mine"})
    assert answer.status_code == 201
    made = answer.json()
    assert made.pop("secret").startswith("whsec_")
    assert set(made) == {"id", "url", "events", "description", "enabled", "created_at"}
    assert made["events"] == ["job.succeeded", "job.failed", "job.cancelled"]
    path = f"/v1/webhooks/{made['id']}"
    assert service.http.get(path).json() == made
    assert service.http.get("/v1/webhooks").json() == {"items": [made], "next_cursor": None}
    changed = service.http.patch(path, json={"events": ["job.failed"], "enabled": False}).json()
    assert (changed["events"], changed["enabled"]) == (["job.failed"], False)
    assert changed["disabled_reason"]
    assert "disabled_reason" not in service.http.patch(path, json={"enabled": True}).json()
    assert service.http.delete(path).status_code == 204
    assert service.http.get(path).status_code == 404


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"url": "http://10.0.0.1/"}, "#/url"),
        ({"url": "http://[::ffff:a9fe:a9fe]/"}, "#/url"),
        ({"url": "gopher://receiver.example/"}, "#/url"),
        ({"url": "https://a:b@receiver.example/"}, "#/url"),
        ({}, "#/url"),
        ({"url": URL, "events": ["job.exploded"]}, "#/events/0"),
        ({"url": URL, "events": []}, "#/events"),
        ({"url": URL, "secret": "mine"}, "#/secret"),
    ],
)
def test_a_faulty_request_is_refused_at_its_pointer(
    service: Service, body: dict[str, object], pointer: str
) -> None:
    answer = service.http.post("/v1/webhooks", json=body)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


def test_a_test_event_arrives_signed_and_is_listed(service: Service, target: Receiver) -> None:
    made = service.http.post("/v1/webhooks", json={"url": target.url}).json()
    path = f"/v1/webhooks/{made['id']}"
    answer = service.http.post(f"{path}/test")
    assert answer.status_code == 202
    sent = answer.json()
    assert set(sent) == {"id", "event", "job", "status", "attempts", "next_attempt_at"}
    assert service.deliver() == 1
    assert target.calls[0].verify(made["secret"])["type"] == "webhook.test"
    (listed,) = service.http.get(f"{path}/deliveries").json()["items"]
    assert (listed["id"], listed["status"]) == (sent["id"], "delivered")
    assert listed["next_attempt_at"] is None
    (attempt,) = listed["attempts"]
    assert attempt["response_status"] == 204
    assert set(attempt) == {"at", "response_status", "duration_ms"}
    again = service.http.post(f"{path}/deliveries/{sent['id']}/redeliver")
    assert (again.status_code, again.json()["status"]) == (202, "pending")
    assert service.deliver() == 1
    assert target.calls[0].id == target.calls[1].id


def test_after_rotation_both_secrets_verify(service: Service, target: Receiver) -> None:
    made = service.http.post("/v1/webhooks", json={"url": target.url}).json()
    rotated = service.http.post(f"/v1/webhooks/{made['id']}/rotate")
    assert rotated.status_code == 200
    service.http.post(f"/v1/webhooks/{made['id']}/test")
    assert service.deliver() == 1
    for secret in (made["secret"], rotated.json()["secret"]):
        target.calls[0].verify(secret)


def test_what_the_receiver_wrote_is_never_shown(service: Service, target: Receiver) -> None:
    target.answer = status(500, b"TOP-SECRET", Location="http://TOP-SECRET/")
    made = service.http.post("/v1/webhooks", json={"url": target.url}).json()
    service.http.post(f"/v1/webhooks/{made['id']}/test")
    assert service.deliver() == 1
    shown = service.http.get(f"/v1/webhooks/{made['id']}/deliveries").text
    assert "the receiver answered 500" in shown
    assert "TOP-SECRET" not in shown


def test_410_is_shown_as_the_reason_and_enabling_clears_it(
    service: Service, target: Receiver
) -> None:
    target.answer = status(410)
    made = service.http.post("/v1/webhooks", json={"url": target.url}).json()
    path = f"/v1/webhooks/{made['id']}"
    service.http.post(f"{path}/test")
    assert service.deliver() == 1
    shown = service.http.get(path).json()
    assert not shown["enabled"]
    assert "410" in shown["disabled_reason"]
    assert service.http.post(f"{path}/test").status_code == 409
    assert service.http.patch(path, json={"enabled": True}).json()["enabled"]
    assert service.http.post(f"{path}/test").status_code == 202


def test_every_route_hides_another_tenants_webhook(service: Service) -> None:
    made = service.http.post("/v1/webhooks", json={"url": URL}).json()
    path = f"/v1/webhooks/{made['id']}"
    sent = service.http.post(f"{path}/test").json()
    foreign = service.http.post("/v1/webhooks", json={"url": URL}, headers=service.other).json()
    assert foreign["id"] != made["id"]
    for method, route in [
        ("GET", path),
        ("PATCH", path),
        ("DELETE", path),
        ("POST", f"{path}/test"),
        ("POST", f"{path}/rotate"),
        ("GET", f"{path}/deliveries"),
        ("POST", f"{path}/deliveries/{sent['id']}/redeliver"),
        ("POST", f"/v1/webhooks/{foreign['id']}/deliveries/{sent['id']}/redeliver"),
    ]:
        body = {"enabled": False} if method == "PATCH" else None
        answer = service.http.request(method, route, json=body, headers=service.other)
        assert answer.status_code == 404, route
        assert answer.json()["type"] == "not-found"
    listed = service.http.get("/v1/webhooks", headers=service.other).json()["items"]
    assert [hook["id"] for hook in listed] == [foreign["id"]]
    assert service.http.get(path).json()["enabled"]


def test_the_same_idempotency_key_makes_one_webhook(service: Service) -> None:
    headers = {"Idempotency-Key": "once"}
    first, second = (
        service.http.post("/v1/webhooks", json={"url": URL}, headers=headers) for _ in range(2)
    )
    assert first.json() == second.json()
    assert second.headers["Idempotent-Replay"] == "true"
    assert len(service.http.get("/v1/webhooks").json()["items"]) == 1


def test_deliveries_are_walked_page_by_page(service: Service) -> None:
    made = service.http.post("/v1/webhooks", json={"url": URL}).json()
    path = f"/v1/webhooks/{made['id']}"
    sent = [service.http.post(f"{path}/test").json()["id"] for _ in range(5)]
    seen: list[str] = []
    cursor: str | None = None
    while True:
        query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        walked = service.http.get(f"{path}/deliveries", params=query).json()
        seen += [item["id"] for item in walked["items"]]
        cursor = walked["next_cursor"]
        if cursor is None:
            break
    assert seen == sent[::-1]
