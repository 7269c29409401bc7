"""The pages of webhooks and keys: made, shown once, tested, renewed, deleted."""

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from html import unescape

import httpx

from app.store.tables import DeliveryRow, WebhookRow
from tests.app.people import browser, form_token, read, send
from tests.app.service import Service


def test_webhooks_and_keys_are_made_here_and_their_secrets_shown_once(
    person: httpx.Client,
) -> None:
    made = send(person, "/webhooks", url="https://example.com/hook", events="job.failed")
    assert "whsec_" in made.text
    assert "whsec_" not in person.get("/webhooks").text
    hook = re.search(r"/webhooks/(whk_\w+)/rotate", made.text)
    assert hook is not None
    assert "whsec_" in send(person, f"/webhooks/{hook[1]}/rotate").text
    assert send(person, f"/webhooks/{hook[1]}/test").status_code == 303
    assert "webhook.test" in read(person.get("/webhooks"))
    private = send(person, "/webhooks", url="http://10.0.0.1/", events="model.ready")
    assert private.status_code == 422
    assert "not a public address" in read(private)
    assert send(person, f"/webhooks/{hook[1]}/delete").status_code == 303
    assert "whk_" not in person.get("/webhooks").text
    key = send(person, "/keys", name="ci", scopes="read")
    assert "plk_" in key.text
    assert "ci" in read(person.get("/keys"))


def test_a_key_is_made_once_and_shown_to_both_clicks(
    service: Service, person: httpx.Client
) -> None:
    form = {"form_token": form_token(person), "once": "o" * 32, "name": "mine", "scopes": "read"}
    assert 'name="once"' in person.get("/keys").text
    with ThreadPoolExecutor(2) as clicks:
        answers = list(clicks.map(lambda _: person.post("/keys", data=form), range(2)))
    made = {re.findall(r">(plk_[^<]+)", answer.text)[0] for answer in answers}
    assert len(made) == 1
    assert read(person.get("/keys")).count("mine") == 1
    headers = {"Authorization": f"Bearer {made.pop()}"}
    assert httpx.get(f"{service.url}/v1/models", headers=headers).status_code == 200
    assert httpx.post(f"{service.url}/v1/models", headers=headers).status_code == 403


def test_what_is_wrong_with_a_form_stands_beside_its_field(person: httpx.Client) -> None:
    for path, typed, words in (
        ("/keys", {"name": " ", "scopes": "read"}, "Say who is to use the key"),
        ("/keys", {"name": "ci"}, "Choose what the key may do"),
        ("/webhooks", {"url": "foo", "events": "job.failed"}, "must be an address"),
        ("/webhooks", {"url": "https://example.com/hook"}, "Choose at least one event"),
    ):
        assert re.search(rf'action="{path}"[^>]* novalidate>', person.get(path).text), "no bubbles"
        answer = send(person, path, **typed)
        assert answer.status_code == 422
        (wrong,) = re.findall(r'<p class="fault" role="alert"><bdi>(.*?)</bdi>', answer.text)
        assert words in wrong
        assert 'aria-invalid="true"' in answer.text


def test_a_webhook_is_tested_renewed_and_told_again_once(
    service: Service, person: httpx.Client
) -> None:
    hook = service.http.post("/v1/webhooks", json={"url": "https://example.com/hook"}).json()["id"]
    form = {"form_token": form_token(person), "once": "o" * 32}
    tests = [person.post(f"/webhooks/{hook}/test", data=form) for _ in range(2)]
    assert {answer.headers["location"] for answer in tests} == {"/webhooks"}
    (sent,) = service.http.get(f"/v1/webhooks/{hook}/deliveries").json()["items"]
    renewed = [person.post(f"/webhooks/{hook}/rotate", data=form).text for _ in range(2)]
    assert len({re.findall(r"whsec_[^<]+", page)[0] for page in renewed}) == 1
    for again in ("pending", "delivered"):  # the first click changes it, the second does not
        with service.store.begin() as session:
            session.get_one(DeliveryRow, sent["id"]).status = "delivered"
        person.post(f"/webhooks/{hook}/deliveries/{sent['id']}/redeliver", data=form)
        (sent,) = service.http.get(f"/v1/webhooks/{hook}/deliveries").json()["items"]
        assert sent["status"] == again
    gone = [person.post(f"/webhooks/{hook}/delete", data=form) for _ in range(2)]
    assert [answer.status_code for answer in gone] == [303, 303]


def test_a_message_that_did_not_arrive_says_when_it_is_tried_again(
    service: Service, person: httpx.Client
) -> None:
    hook = service.http.post("/v1/webhooks", json={"url": "https://example.com/hook"}).json()["id"]
    sent = service.http.post(f"/v1/webhooks/{hook}/test").json()["id"]
    assert "attempt " not in read(person.get("/webhooks")), "it is sent at once"
    refused = {"at": "2030-01-02T03:04:05Z", "response_status": 500, "duration_ms": 9.0}

    def shown(status: str, *, enabled: bool = True) -> str:
        with service.store.begin() as session:
            row = session.get_one(DeliveryRow, sent)
            row.status, row.log = status, [{**refused, "error": "it answered 500"}]
            row.not_before = datetime(2030, 1, 2, 4, 5, tzinfo=UTC)
            session.get_one(WebhookRow, hook).enabled = enabled
        return read(person.get("/webhooks"))

    assert "Next attempt 2030-01-02 04:05:00 UTC." in shown("pending")
    assert "No further attempt while the webhook is disabled." in shown("pending", enabled=False)
    assert 'No further attempt; "Send again" makes one.' in shown("failed")
    assert "attempt" not in shown("delivered")
    with service.store.begin() as session:
        session.get_one(DeliveryRow, sent).log = [{**refused, "response_status": 204}]
    assert "2030-01-02 03:04:05 UTC: answered 204 in 9 ms ." in read(person.get("/webhooks"))


def test_older_deliveries_are_on_pages_of_their_own(service: Service, person: httpx.Client) -> None:
    hook = service.http.post("/v1/webhooks", json={"url": "https://example.com/hook"}).json()["id"]
    for _ in range(12):
        service.http.post(f"/v1/webhooks/{hook}/test").raise_for_status()
    sent = service.http.get(f"/v1/webhooks/{hook}/deliveries").json()["items"]
    places = [f"/webhooks/{hook}/deliveries/{each['id']}/redeliver" for each in sent]
    first = person.get("/webhooks").text
    assert [place in first for place in places] == [True] * 10 + [False] * 2
    older = re.search(r'<a href="([^"]+)">Older ones', first)
    assert older is not None
    then = person.get(older[1]).text
    assert [place in then for place in places] == [False] * 10 + [True] * 2
    assert "Older ones" not in then
    action = re.search(rf'action="({re.escape(places[-1])}[^"]*)"', then)
    assert action is not None
    again = send(person, unescape(action[1]))
    assert again.headers["location"] == older[1], "one is back where the delivery is"
    elsewhere = send(person, f"{places[-1]}?back=https://example.com/")
    assert elsewhere.headers["location"] == "/"
    with browser(service, "umbrella") as other:
        assert other.get(older[1]).status_code == 404


def test_the_page_of_a_job_shows_its_tags_and_what_its_own_webhook_was_told(
    service: Service, person: httpx.Client
) -> None:
    job = service.job(tags=["a&b", "night"], webhook={"url": "https://example.com/mine"})
    address = f"/jobs/{job['id']}"
    page = person.get(address)
    assert 'href="/jobs?tag=a%26b"' in page.text
    assert "To be told when it ends: https://example.com/mine" in read(page)
    service.finish(job["id"])
    (sent,) = service.http.get(f"/v1/webhooks/{job['webhook']['id']}/deliveries").json()["items"]
    page = person.get(address)
    assert "Told at https://example.com/mine job.succeeded pending" in read(page)
    again = re.search(
        rf'action="(/webhooks/\w+/deliveries/{sent["id"]}/redeliver[^"]*)"', page.text
    )
    assert again is not None
    assert send(person, unescape(again[1])).headers["location"] == address
    looks = re.search(r'hx-get="([^"]+)"', page.text)
    assert looks is not None
    assert again[1] in person.get(unescape(looks[1])).text, "what is looked at again leads back too"
    with browser(service, "umbrella") as other:
        assert "example.com/mine" not in other.get("/webhooks").text
