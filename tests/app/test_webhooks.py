"""What can be done with webhooks, and what is refused."""

import base64
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import HttpUrl, ValidationError
from sqlalchemy.orm import Session

from app.domain.problems import Conflict, Invalid, NotFound
from app.domain.request_parts import OneOffWebhook
from app.domain.webhooks import JOB_ENDED, Webhook, WebhookChange, WebhookRequest
from app.services import webhooks
from app.settings import Database
from app.store.session import connect, sessions
from app.store.tables import DeliveryRow, JobRow, WebhookRow
from app.store.webhooks import standing

URL = HttpUrl("https://receiver.example/hook")
OTHER = "somebody-else"


@pytest.fixture
def session(database: str) -> Iterator[Session]:
    engine = connect(Database(url=database))
    with sessions(engine)() as opened:
        yield opened
    engine.dispose()


def created(session: Session) -> Webhook:
    return webhooks.create(session, "t", WebhookRequest(url=URL), ())


def test_the_secret_is_shown_on_creation_and_rotation_alone(session: Session) -> None:
    made = created(session)
    assert made.secret is not None
    assert made.secret.startswith("whsec_")
    assert 24 <= len(base64.b64decode(made.secret.removeprefix("whsec_"), validate=True)) <= 32
    assert made.events == list(JOB_ENDED)
    shown = webhooks.view(webhooks.find(session, "t", made.id)).model_dump()
    assert "secret" not in shown
    assert "disabled_reason" not in shown
    rotated = webhooks.rotate(session, "t", made.id)
    assert rotated.secret not in {None, made.secret}


@pytest.mark.parametrize(
    "url",
    [
        "ftp://receiver.example/",
        "file:///etc/passwd",
        "https://user:password@receiver.example/",
        "https://user@receiver.example/",
        "receiver.example",
        "https://" + "x" * 3000,
    ],
)
def test_a_url_that_can_never_be_called_is_no_request(url: str) -> None:
    with pytest.raises(ValidationError):
        WebhookRequest.model_validate({"url": url})


PRIVATE_HOSTS = [
    "127.0.0.1", "127.1", "0x7f.1", "0177.0.0.1", "2130706433", "0", "127.0.0.1.", "①②⑦.0.0.1",
    "localhost", "LOCALHOST.", "a.localhost", "[::]", "[::1]", "[::ffff:169.254.169.254]",
    "[64:ff9b::a9fe:a9fe]", "[2002:a9fe:a9fe::1]", "[fd00:ec2::254]", "[fe80::1]", "10.0.0.1",
    "169.254.169.254", "100.64.0.1", "192.168.1.1:8080", "224.0.0.1", "255.255.255.255",
]  # fmt: skip


@pytest.mark.parametrize("host", PRIVATE_HOSTS)
def test_a_private_address_is_refused_and_the_refusal_says_what_admits_it(
    session: Session, host: str
) -> None:
    request = WebhookRequest.model_validate({"url": f"http://{host}/hook"})
    with pytest.raises(Invalid) as refusal:
        webhooks.create(session, "t", request, ())
    (error,) = refusal.value.errors or []
    assert error.pointer == "#/url"
    assert "WEBHOOK_ALLOWED_NETWORKS" in error.detail


@given(st.ip_addresses(v=4, network="10.0.0.0/8"), st.sampled_from(["{}", "{:#x}", "0{:o}"]))
def test_no_number_is_another_way_to_a_private_address(address: IPv4Address, form: str) -> None:
    url = WebhookRequest.model_validate({"url": f"http://{form.format(int(address))}/"}).url
    with pytest.raises(Invalid):
        webhooks.check_address(url, (), "#/url")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "[::ffff:127.0.0.1]"])
def test_an_admitted_network_is_accepted(session: Session, host: str) -> None:
    request = WebhookRequest.model_validate({"url": f"http://{host}:9/hook"})
    assert webhooks.create(session, "t", request, [IPv4Network("127.0.0.0/8")]).enabled


def test_what_a_change_leaves_out_stays(session: Session) -> None:
    made = webhooks.create(session, "t", WebhookRequest(url=URL, description="first"), ())
    changed = webhooks.change(
        session, "t", made.id, WebhookChange(events=["job.failed", "job.failed"]), ()
    )
    assert changed.events == ["job.failed"]
    assert (changed.url, changed.description, changed.enabled) == (str(URL), "first", True)
    cleared = webhooks.change(session, "t", made.id, WebhookChange(description=None), ())
    assert cleared.description is None


def test_a_change_cannot_lead_to_a_private_address(session: Session) -> None:
    made = created(session)
    with pytest.raises(Invalid):
        webhooks.change(session, "t", made.id, WebhookChange(url=HttpUrl("http://[::1]/")), ())


def test_enabling_clears_the_reason(session: Session) -> None:
    made = created(session)
    disabled = webhooks.change(session, "t", made.id, WebhookChange(enabled=False), ())
    assert disabled.disabled_reason
    enabled = webhooks.change(session, "t", made.id, WebhookChange(enabled=True), ())
    assert enabled.enabled
    assert enabled.disabled_reason is None


def test_a_disabled_webhook_is_neither_tested_nor_sent_to_again(session: Session) -> None:
    made = created(session)
    sent = webhooks.send_test(session, "t", made.id)
    webhooks.change(session, "t", made.id, WebhookChange(enabled=False), ())
    with pytest.raises(Conflict, match="Enable it first"):
        webhooks.send_test(session, "t", made.id)
    with pytest.raises(Conflict, match="Enable it first"):
        webhooks.redeliver(session, "t", made.id, sent.id)


def test_a_test_is_a_pending_delivery(session: Session) -> None:
    sent = webhooks.send_test(session, "t", created(session).id)
    assert (sent.event, sent.status, sent.job) == ("webhook.test", "pending", None)
    assert sent.attempts == []
    assert sent.next_attempt_at is not None


def test_a_redelivery_has_all_its_attempts_before_it(session: Session) -> None:
    made = created(session)
    row = session.get_one(DeliveryRow, webhooks.send_test(session, "t", made.id).id)
    row.status, row.attempts, message = "failed", 9, row.message_id
    session.flush()
    assert webhooks.redeliver(session, "t", made.id, row.id).status == "pending"
    assert (row.attempts, row.message_id) == (0, message)


def test_another_tenants_webhooks_do_not_exist(session: Session) -> None:
    made = created(session)
    sent = webhooks.send_test(session, "t", made.id)
    own = webhooks.create(session, OTHER, WebhookRequest(url=URL), ())
    for refused in (
        lambda: webhooks.find(session, OTHER, made.id),
        lambda: webhooks.change(session, OTHER, made.id, WebhookChange(enabled=False), ()),
        lambda: webhooks.delete(session, OTHER, made.id),
        lambda: webhooks.rotate(session, OTHER, made.id),
        lambda: webhooks.send_test(session, OTHER, made.id),
        lambda: webhooks.redeliver(session, OTHER, made.id, sent.id),
        lambda: webhooks.redeliver(session, OTHER, own.id, sent.id),
    ):
        with pytest.raises(NotFound):
            refused()


def test_a_deleted_webhook_takes_its_deliveries_along(session: Session) -> None:
    made = created(session)
    sent = webhooks.send_test(session, "t", made.id)
    webhooks.delete(session, "t", made.id)
    session.flush()
    session.expire_all()
    assert session.get(WebhookRow, made.id) is None
    assert session.get(DeliveryRow, sent.id) is None


SECRET = "whsec_" + "QUJD" * 8


@pytest.mark.parametrize("secret", ["QUJD" * 8, "whsec_QUJD", "whsec_!!!!" + "QUJD" * 8, "whsec_"])
def test_a_secret_that_cannot_sign_is_no_request(secret: str) -> None:
    with pytest.raises(ValidationError):
        OneOffWebhook.model_validate({"url": str(URL), "secret": secret})


def test_the_webhook_of_one_job_is_in_no_list_and_its_secret_is_shown_if_made(
    session: Session,
) -> None:
    job = JobRow(id="job_1", tenant="t", tags=[], request={}, model_id="mdl_1")
    session.add(job)
    session.flush()
    asked = OneOffWebhook.model_validate({"url": str(URL), "secret": SECRET})
    row, made = webhooks.one_off(session, "t", job.id, asked)
    assert (row.secret, made) == (SECRET, None)
    row, made = webhooks.one_off(session, "t", job.id, OneOffWebhook(url=URL))
    assert made == row.secret
    kept = created(session)
    assert [hook.id for hook in session.scalars(standing("t"))] == [kept.id]
