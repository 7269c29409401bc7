"""A delivery arrives at least once, signed, or ends visibly; receivers of every kind are real."""

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, text
from standardwebhooks import WebhookVerificationError

from app.domain.webhooks import Attempt
from app.services import webhooks
from app.settings import Settings
from app.store import deliveries, delivery_turns
from app.store.session import Sessions
from app.store.tables import DeliveryRow, Json, WebhookRow
from tests.receiver import Receiver, receiver, status
from tests.workers.hooks import (
    LOOPBACK,
    SECRET,
    configured,
    hook,
    let_pass,
    pending,
    read,
    read_hook,
)
from workers import addresses
from workers.webhooks import delivery


@pytest.fixture
def target() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


@pytest.fixture
def settings() -> Settings:
    return configured()


def deliver(store: Sessions, settings: Settings, delivery_id: str) -> bool:
    return delivery.deliver(store, settings, delivery_id, "worker")


def outcome(store: Sessions, settings: Settings, url: str) -> tuple[str, Attempt]:
    """Deliver once to ``url``; return the delivery's status and its one attempt."""
    delivery_id = pending(store, hook(store, url))
    assert deliver(store, settings, delivery_id)
    row = read(store, delivery_id)
    (attempt,) = row.log
    return row.status, Attempt.model_validate(attempt)


def test_a_delivery_arrives_signed_as_the_library_verifies(
    store: Sessions, settings: Settings, target: Receiver
) -> None:
    delivery_id = pending(store, hook(store, target.url), {"name": "Füße", "n": 1})
    assert deliver(store, settings, delivery_id)
    (call,) = target.calls
    payload = call.verify(SECRET)
    assert payload["type"] == "job.succeeded"
    assert payload["data"] == {"name": "Füße", "n": 1}
    assert datetime.fromisoformat(payload["timestamp"]) <= datetime.now(UTC)
    row = read(store, delivery_id)
    assert call.id == row.message_id
    assert call.body.decode() == row.payload
    assert row.status == "delivered"
    assert row.lease_owner is None
    (attempt,) = row.log
    assert attempt["response_status"] == 204
    assert attempt["duration_ms"] > 0
    assert "error" not in attempt


def test_what_is_delivered_is_not_sent_again(
    store: Sessions, settings: Settings, target: Receiver
) -> None:
    delivery_id = pending(store, hook(store, target.url))
    assert deliver(store, settings, delivery_id)
    let_pass(store)
    assert not deliver(store, settings, delivery_id)
    assert len(target.calls) == 1


def test_parallel_nudges_make_one_request(
    store: Sessions, settings: Settings, target: Receiver
) -> None:
    delivery_id = pending(store, hook(store, target.url))
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: deliver(store, settings, delivery_id), range(32)))
    assert sum(made) == 1
    assert len(target.calls) == 1


def test_failures_are_retried_on_schedule_under_one_id_until_a_day_is_over(
    store: Sessions, settings: Settings, target: Receiver
) -> None:
    target.answer = status(500)
    delivery_id = pending(store, hook(store, target.url))
    waits = []
    while read(store, delivery_id).status == "pending":
        assert deliver(store, settings, delivery_id)
        assert not deliver(store, settings, delivery_id), "not before its time"
        with store() as session:
            waits.append(
                session.scalars(
                    select(func.extract("epoch", DeliveryRow.not_before - func.now()))
                ).one()
            )
        let_pass(store)
    schedule = [5, 30, 120, 600, 3600, 3 * 3600, 6 * 3600, 12 * 3600]
    for asked, wait in zip(schedule, waits, strict=False):
        assert asked - 2 < wait <= asked * 1.2
    row = read(store, delivery_id)
    assert row.status == "failed"
    assert len(row.log) == len(target.calls) == 9
    assert {call.id for call in target.calls} == {row.message_id}
    assert {entry["error"] for entry in row.log} == {"the receiver answered 500"}
    for call in target.calls:
        call.verify(SECRET)


def test_a_receiver_that_comes_back_gets_it(
    store: Sessions, settings: Settings, target: Receiver
) -> None:
    webhook_id = hook(store, target.url)
    delivery_id = pending(store, webhook_id)
    target.answer = status(503)
    assert deliver(store, settings, delivery_id)
    assert read_hook(store, webhook_id).failing_since is not None
    target.answer = status(200)
    let_pass(store)
    assert deliver(store, settings, delivery_id)
    assert read(store, delivery_id).status == "delivered"
    assert read_hook(store, webhook_id).failing_since is None


def test_the_response_body_is_stored_nowhere(
    store: Sessions, settings: Settings, target: Receiver
) -> None:
    for answer in (status(500, b"TOP-SECRET"), status(200, b"TOP-SECRET")):
        target.answer = answer
        outcome(store, settings, target.url)
    with store() as session:
        for table in ("deliveries", "webhooks"):
            rows = session.execute(text(f"SELECT row_to_json(t)::text FROM {table} t")).scalars()
            assert "TOP-SECRET" not in "".join(rows)


def test_an_endless_body_is_not_read_to_its_end(
    store: Sessions, settings: Settings, target: Receiver
) -> None:
    target.answer = status(200, b"x" * 50_000_000)
    assert outcome(store, settings, target.url)[0] == "delivered"


@pytest.mark.parametrize("habit", ["hang", "drip"])
def test_a_slow_receiver_is_cut_off_at_the_total_timeout(
    store: Sessions, target: Receiver, habit: str
) -> None:
    target.answer = getattr(target, habit)
    state, attempt = outcome(store, configured(timeout=0.5), target.url)
    assert state == "pending"
    assert attempt.error is not None
    assert attempt.error.startswith("timeout")
    assert attempt.duration_ms is not None
    assert 500 <= attempt.duration_ms < 3000


@pytest.mark.parametrize("code", [301, 302, 307, 308])
def test_a_redirect_is_a_visible_failure_and_not_followed(
    store: Sessions, settings: Settings, target: Receiver, code: int
) -> None:
    target.answer = status(code, Location=target.url)
    state, attempt = outcome(store, settings, target.url)
    assert state == "pending"
    assert attempt.response_status == code
    assert attempt.error is not None
    assert attempt.error.startswith("redirect")
    assert len(target.calls) == 1


def test_a_receiver_that_disappeared_is_retried(store: Sessions, settings: Settings) -> None:
    with receiver() as gone:
        pass
    state, attempt = outcome(store, settings, gone.url)
    assert state == "pending"
    assert attempt.response_status is None
    assert attempt.error is not None
    assert attempt.error.startswith("no connection")


def test_what_is_not_http_is_a_failure_and_never_quoted(
    store: Sessions, settings: Settings
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def talk() -> None:
            with server.accept()[0] as peer:
                peer.recv(65536)
                peer.sendall(b"TOP-SECRET-BANNER\r\n\r\n")

        thread = threading.Thread(target=talk)
        thread.start()
        port = server.getsockname()[1]
        state, attempt = outcome(store, settings, f"http://127.0.0.1:{port}/")
        thread.join()
    assert state == "pending"
    assert attempt.error is not None
    assert "BANNER" not in attempt.error


def test_a_private_address_is_refused_unless_admitted(store: Sessions, target: Receiver) -> None:
    """Checked at the call: a webhook that was made before the setting changed is refused too."""
    state, attempt = outcome(store, configured(networks="10.0.0.0/8"), target.url)
    assert state == "pending"
    assert attempt.error is not None
    assert "WEBHOOK_ALLOWED_NETWORKS" in attempt.error
    assert not target.calls


def test_410_disables_the_webhook_and_ends_what_is_pending(
    store: Sessions, settings: Settings, target: Receiver
) -> None:
    target.answer = status(410)
    webhook_id = hook(store, target.url)
    first, second = pending(store, webhook_id), pending(store, webhook_id)
    assert deliver(store, settings, first)
    assert read(store, first).status == "failed"
    row = read_hook(store, webhook_id)
    assert not row.enabled
    assert row.disabled_reason is not None
    assert "410" in row.disabled_reason
    assert not deliver(store, settings, second)
    ended = read(store, second)
    assert ended.status == "failed"
    assert "disabled" in ended.log[-1]["error"]
    assert len(target.calls) == 1


def test_a_webhook_that_fails_for_days_is_disabled(
    store: Sessions, settings: Settings, target: Receiver
) -> None:
    target.answer = status(500)
    webhook_id = hook(store, target.url, failing_since=datetime.now(UTC) - timedelta(days=6))
    delivery_id = pending(store, webhook_id)
    assert deliver(store, settings, delivery_id)
    row = read_hook(store, webhook_id)
    assert not row.enabled
    assert row.disabled_reason is not None
    assert "failed since" in row.disabled_reason
    assert read(store, delivery_id).status == "failed"


def test_both_secrets_sign_until_the_old_one_runs_out(
    store: Sessions, settings: Settings, target: Receiver
) -> None:
    webhook_id = hook(store, target.url)
    with store.begin() as session:
        new = webhooks.rotate(session, "t", webhook_id).secret
    assert new is not None
    assert deliver(store, settings, pending(store, webhook_id))
    target.calls[0].verify(SECRET)
    target.calls[0].verify(new)
    with store.begin() as session:
        row = session.get_one(WebhookRow, webhook_id)
        assert row.previous_secret_expires_at is not None
        left = row.previous_secret_expires_at - datetime.now(UTC)
        assert timedelta(hours=23) < left <= timedelta(hours=24, minutes=1)
        row.previous_secret_expires_at = func.now()
    assert deliver(store, settings, pending(store, webhook_id))
    target.calls[1].verify(new)
    with pytest.raises(WebhookVerificationError):
        target.calls[1].verify(SECRET)


def test_a_redelivery_keeps_the_message_id(
    store: Sessions, settings: Settings, target: Receiver
) -> None:
    webhook_id = hook(store, target.url)
    delivery_id = pending(store, webhook_id)
    assert deliver(store, settings, delivery_id)
    with store.begin() as session:
        view = webhooks.redeliver(session, "t", webhook_id, delivery_id)
    assert view.status == "pending"
    assert deliver(store, settings, delivery_id)
    assert target.calls[0].id == target.calls[1].id
    assert target.calls[0].body == target.calls[1].body
    assert len(read(store, delivery_id).log) == 2


_DELIVERER = """
import sys
from app.settings import Database, Settings, Webhook
from app.store.session import connect, sessions
from workers.webhooks.delivery import deliver
webhook = Webhook(allowed_networks=sys.argv[3], timeout_seconds=60)
deliver(sessions(connect(Database(url=sys.argv[1]))), Settings(webhook=webhook), sys.argv[2], "k")
"""


def test_a_deliverer_killed_in_the_middle_loses_nothing(
    store: Sessions, settings: Settings, target: Receiver, database: str
) -> None:
    target.answer = target.hang
    delivery_id = pending(store, hook(store, target.url))
    process = subprocess.Popen([sys.executable, "-c", _DELIVERER, database, delivery_id, LOOPBACK])
    try:
        assert target.arrived.acquire(timeout=60)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert not deliver(store, settings, delivery_id), "the lease holds"
    with store() as session:
        assert not delivery_turns.due(session, 10)
    let_pass(store)
    with store() as session:
        assert delivery_turns.due(session, 10) == [delivery_id]
    target.answer = status(200)
    assert deliver(store, settings, delivery_id)
    row = read(store, delivery_id)
    assert row.status == "delivered"
    assert [call.id for call in target.calls] == [row.message_id] * 2
    interrupted, delivered = row.log
    assert "stopped" in interrupted["error"]
    assert delivered["response_status"] == 200


def test_a_delivery_that_kills_its_deliverers_ends(
    store: Sessions, settings: Settings, target: Receiver
) -> None:
    delivery_id = pending(store, hook(store, target.url))
    attempts = len(delivery.RETRY_SECONDS) + 1
    for _ in range(attempts):
        with store.begin() as session:
            assert deliveries.claim(session, delivery_id, "killed", 60, attempts)
        let_pass(store)
    assert not deliver(store, settings, delivery_id)
    row = read(store, delivery_id)
    assert row.status == "failed"
    assert len(row.log) == attempts
    assert not target.calls


def test_a_deliverer_that_lost_its_lease_writes_nothing(
    store: Sessions, settings: Settings, target: Receiver
) -> None:
    delivery_id = pending(store, hook(store, target.url))
    with store.begin() as session:
        stale = deliveries.claim(session, delivery_id, "paused", 60, 9)
    assert stale is not None
    let_pass(store)
    assert deliver(store, settings, delivery_id)
    late = Attempt(at=stale.at, response_status=500, duration_ms=1.0, error="late")
    with store.begin() as session:
        assert not deliveries.record(session, stale, late, 5, 1)
    row = read(store, delivery_id)
    assert row.status == "delivered"
    assert "late" not in json.dumps(row.log)


def test_a_webhook_deleted_during_the_call_is_no_error(
    store: Sessions, settings: Settings, target: Receiver
) -> None:
    webhook_id = hook(store, target.url)
    delivery_id = pending(store, webhook_id)
    reply = status(200)

    def delete_then_reply(handler: object) -> None:
        with store.begin() as session:
            webhooks.delete(session, "t", webhook_id)
        reply(handler)  # type: ignore[arg-type]

    target.answer = delete_then_reply
    assert deliver(store, settings, delivery_id)
    with store() as session:
        assert session.get(DeliveryRow, delivery_id) is None


@contextmanager
def _tls_receiver(directory: Path) -> Iterator[tuple[Receiver, Path]]:
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
         "-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with receiver(lambda plain: context.wrap_socket(plain, server_side=True)) as running:
        yield running, certificate


def test_tls_is_verified_against_the_name_although_an_address_is_connected_to(
    store: Sessions, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _tls_receiver(tmp_path) as (running, certificate):
        state, attempt = outcome(store, settings, running.url)
        assert state == "pending"
        assert attempt.error is not None
        assert "certificate verify failed" in attempt.error
        assert not running.calls
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        addresses.trust.cache_clear()
        assert outcome(store, settings, running.url)[0] == "delivered"
        by_address = running.url.replace("localhost", "127.0.0.1")
        assert outcome(store, settings, by_address)[0] == "pending"
    addresses.trust.cache_clear()


def test_a_job_too_long_to_be_posted_is_told_without_its_steps(store: Sessions) -> None:
    problem = {"type": "failed", "title": "T", "status": 422, "detail": "d" * 90_000, "more": "m"}
    job: Json = {"id": "job_1", "steps": [{"ignore": ["ü" * 500] * 100}], "problem": problem}
    hook(store, "https://one.example/")
    with store.begin() as session:
        deliveries.enqueue(session, "t", "job.succeeded", "job_1", job)
    with store() as session:
        payload = session.scalars(select(DeliveryRow.payload)).one()
    assert len(payload.encode()) < 20_000
    data = json.loads(payload)["data"]
    assert data["id"] == "job_1"
    assert data["steps"] is None
    assert data["problem"]["type"] == "failed"
