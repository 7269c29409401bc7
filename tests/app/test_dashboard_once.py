"""A form that is sent twice, as by a double click without scripts, acts once."""

import re
from concurrent.futures import ThreadPoolExecutor
from secrets import token_hex

import httpx

from tests.app.people import browser, filled, form_token, read
from tests.app.service import Service


def test_a_form_that_is_sent_twice_makes_one_job_and_one_that_is_changed_another(
    service: Service, person: httpx.Client
) -> None:
    model = service.model()
    wish = {"model": model, "step": "quantize"}
    form = {**filled(person.get("/jobs/new", params=wish)), "steps.0.mode": "dynamic"}
    form["do"] = "submit"
    with ThreadPoolExecutor(4) as clicks:
        answers = list(clicks.map(lambda _: person.post("/jobs/new", data=form), range(4)))
    assert {answer.status_code for answer in answers} == {303}
    assert len({answer.headers["location"] for answer in answers}) == 1
    again = person.post("/jobs/new", data={**form, "name": "another"})
    afresh = {**form, "once": filled(person.get("/jobs/new", params=wish))["once"]}
    later = person.post("/jobs/new", data=afresh)
    places = {answers[0].headers["location"], again.headers["location"], later.headers["location"]}
    assert len(places) == 3
    listed = service.http.get("/v1/jobs", params={"model": model}).json()["items"]
    assert {f"/jobs/{job['id']}" for job in listed} == places


def test_a_search_and_a_webhook_are_made_once_too(service: Service, person: httpx.Client) -> None:
    for path, wish in (
        ("/searches/new", {"model": service.model(), "minimize": "size"}),
        ("/webhooks", {"url": "https://example.com/hook"}),
    ):
        form = {**filled(person.get(path)), **wish}
        first, second = person.post(path, data=form), person.post(path, data=form)
        assert first.status_code == second.status_code, read(second)
        assert first.headers.get("location") == second.headers.get("location")
    assert len(service.http.get("/v1/jobs").json()["items"]) == 1
    assert len(service.http.get("/v1/webhooks").json()["items"]) == 1


def test_the_second_click_of_what_changes_a_thing_finds_it_done(
    service: Service, person: httpx.Client
) -> None:
    token = form_token(person)

    def twice(path: str) -> str:
        form = {"form_token": token, "once": token_hex(16)}
        clicks = [person.post(path, data=form) for _ in range(2)]
        assert [click.status_code for click in clicks] == [303, 303], (path, read(clicks[-1]))
        assert clicks[0].headers["location"] == clicks[1].headers["location"]
        return clicks[0].headers["location"]

    job, model, dataset = service.job()["id"], service.rejected_model(), service.dataset()
    assert twice(f"/jobs/{job}/cancel") == twice(f"/jobs/{job}/retry") == f"/jobs/{job}"
    assert service.http.get(f"/v1/jobs/{job}").json()["status"] == "queued"
    assert twice(f"/jobs/{job}/cancel") == f"/jobs/{job}"
    assert twice(f"/jobs/{job}/delete") == "/jobs"
    assert twice(f"/models/{model}/again") != f"/models/{model}"
    assert twice(f"/models/{model}/delete") == "/models"
    assert twice(f"/datasets/{dataset}/delete") == "/datasets"
    for thing in ("jobs/" + job, "models/" + model, "datasets/" + dataset):
        assert service.http.get(f"/v1/{thing}").status_code == 404


def test_the_key_of_a_form_holds_for_its_tenant_alone(
    service: Service, person: httpx.Client
) -> None:
    form = {**filled(person.get("/webhooks")), "url": "https://example.com/hook"}
    with browser(service, "umbrella") as other:
        theirs = {**form, "form_token": form_token(other)}
        mine, foreign = person.post("/webhooks", data=form), other.post("/webhooks", data=theirs)
    secrets = {re.findall(r"whsec_[^<]+", answer.text)[0] for answer in (mine, foreign)}
    assert len(secrets) == 2
