"""A job is composed on a page, with or without advice, and to be copied."""

import json
import os
import re
import subprocess
from html import unescape

import httpx

from app.domain.methods import methods
from app.store.tables import ModelRow
from app.web.dashboard.forms import fields
from tests.app.people import filled, form_token, read, send
from tests.app.service import Service


def test_a_goal_becomes_a_job(person: httpx.Client, service: Service) -> None:
    model, dataset = service.model(), service.dataset()
    page = person.get("/jobs/new", params={"model": model, "dataset": dataset, "goal": "both"})
    assert "This will run." in read(page)
    assert 'value="0.01"' in page.text
    fields = {"steps.0.method": "quantize", "steps.0.mode": "dynamic", "max_quality_drop": "0.01"}
    answer = send(person, "/jobs/new", do="submit", model=model, dataset=dataset, **fields)
    assert answer.status_code == 303
    job = service.http.get(f"/v1{answer.headers['location']}").json()
    assert job["require"] == {"max_quality_drop": 0.01}
    assert [step["mode"] for step in job["steps"]] == ["dynamic"]
    like = person.get("/jobs/new", params={"like": job["id"]})
    copied = unescape(like.text)
    assert "client.jobs.create('" + model in copied
    step = """--step '{"method": "quantize", "mode": "dynamic"}'"""
    assert f"{step} --max-drop 0.01 -o smaller.onnx --url {service.url}" in copied
    assert 'job.download("smaller.onnx")' in copied
    assert 'value="0.01"' in like.text
    assert re.search(r"<option selected>dynamic</option>", like.text)


def test_what_is_to_copy_names_the_service_and_runs(person: httpx.Client, service: Service) -> None:
    asked = {"model": service.model(), "do": "plan", "steps.0.method": "quantize"}
    page = send(person, "/jobs/new", **asked).text
    curl = re.search(r"<h3>curl</h3><pre[^>]*>(.*?)</pre>", page, re.DOTALL)
    assert curl is not None
    key = service.http.headers["Authorization"].removeprefix("Bearer ")
    made = subprocess.run(
        ["bash", "-euc", unescape(curl[1])],
        env={"PATH": os.environ["PATH"], "PLANISH_API_KEY": key},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    job = json.loads(made.stdout)
    assert job["model"] == asked["model"]
    assert [step["method"] for step in job["steps"]] == ["quantize"]


def test_what_is_to_copy_downloads_each_format_by_its_own_name(
    person: httpx.Client, service: Service
) -> None:
    service.worker("openvino")
    asked = {"model": service.model(), "dataset": service.dataset(), "target": "openvino-cpu"}
    page = send(person, "/jobs/new", do="plan", **asked, **{"steps.0.method": "quantize"})
    copied = unescape(page.text)
    for name in ("openvino", "onnx"):
        assert f"print(job.download(\".\", format='{name}'))" in copied
    assert "smaller.onnx" not in copied


def test_what_is_to_copy_has_the_name_and_tags_and_says_what_a_command_leaves_out(
    person: httpx.Client, service: Service
) -> None:
    asked = {"model": service.model(), "steps.0.method": "quantize", "do": "plan"}
    copied = unescape(send(person, "/jobs/new", name="my net", **asked).text)
    assert "--name 'my net'" in copied
    assert "has no option" not in copied
    more = {"more.tags": "a\nb c", "more.priority": "3"}
    copied = unescape(send(person, "/jobs/new", **asked, **more).text)
    assert "--tag a --tag 'b c'" in copied
    assert "# The command has no option for 'priority'." in copied


def test_a_wish_for_a_phone_says_where_the_model_is_to_run(
    person: httpx.Client, service: Service
) -> None:
    model, dataset = service.model(), service.dataset()
    wished = {"model": model, "dataset": dataset, "goal": "phone"}
    page = person.get("/jobs/new", params=wished)
    assert '<option value="mobile-litert" selected>' in page.text
    assert "planish tools install litert" in read(page), "no worker here makes such files"
    fields = {"steps.0.method": "quantize", "steps.0.mode": "dynamic", "target": "mobile-litert"}
    refused = send(person, "/jobs/new", do="submit", model=model, dataset=dataset, **fields)
    assert refused.status_code == 422
    assert '<option value="mobile-litert" selected>' in refused.text, "nothing chosen is lost"
    for answer in (page, refused):
        summary = read(answer).partition("What will happen")[2]
        assert summary.count("No worker of this deployment") == 1, "a refusal is said once"


def test_a_form_offers_what_this_deployment_can_do(person: httpx.Client, service: Service) -> None:
    phone, option = "wish:phone", r'<option value="mobile-litert"(?: disabled)?>[^<]*'
    formats = r'name="more\.deliver".*?One a line: ([^.]*)\.'

    def offered(path: str) -> tuple[bool, str, str]:
        page = person.get(path).text
        found = re.search(option, page)
        asked = re.search(formats, page, re.DOTALL)
        assert asked is not None
        return phone in page, found[0] if found else "", asked[1]

    for announced in ("", "onnx"):
        if announced:
            service.worker(announced)
        linked, target, listed = offered("/jobs/new")
        assert (linked, "disabled" in target, "not here yet" in target) == (False, True, True)
        assert listed == "onnx"
        assert "planish tools install litert" in read(person.get("/jobs/new"))
        assert offered("/searches/new") == (False, "", "onnx")
    service.worker("litert")
    linked, target, listed = offered("/jobs/new")
    assert (linked, "disabled" in target, "not here yet" in target) == (True, False, False)
    assert listed == "litert, onnx"
    assert offered("/searches/new")[1:] == ('<option value="mobile-litert">', "litert, onnx")


def test_samples_may_be_made_from_the_model(person: httpx.Client, service: Service) -> None:
    model = service.model()
    page = read(person.get("/jobs/new", params={"model": model, "dataset": "generated"}))
    assert "There is no dataset" not in page
    fields = {"steps.0.method": "quantize", "steps.0.mode": "static"}
    answer = send(person, "/jobs/new", do="submit", model=model, dataset="generated", **fields)
    assert answer.status_code == 303, read(answer)
    job = service.http.get(f"/v1{answer.headers['location']}").json()
    assert (job["dataset"], job["data"]) == (None, "generated")
    like = unescape(person.get("/jobs/new", params={"like": job["id"]}).text)
    assert '<option value="generated" selected>' in like
    assert "--generated-data" in like
    assert "data='generated'" in like


def test_steps_are_added_moved_and_removed_without_scripts(person: httpx.Client) -> None:
    two = {"steps.0.method": "prune", "steps.1.method": "quantize", "steps.1.mode": "dynamic"}

    def order(**sent: str) -> list[str]:
        page = send(person, "/jobs/new", **sent).text
        return re.findall(r'name="steps\.\d+\.method" value="(\w+)"', page)

    assert order(do="add:cluster", **two) == ["prune", "quantize", "cluster"]
    assert order(do="up:1", **two) == ["quantize", "prune"]
    assert order(do="down:0", **two) == ["quantize", "prune"]
    assert order(do="remove:0", **two) == ["quantize"]
    assert order(do="remove:9", **two) == ["prune", "quantize"]
    assert order(do="add:nonsense", **two) == ["prune", "quantize"]


def test_every_parameter_of_every_method_has_a_field() -> None:
    for method in methods():
        names = {field.name for field in fields(method)}
        assert names == set(method.json_schema["properties"]) - {"method"}
        assert any(not field.advanced for field in fields(method))


def test_a_new_job_begins_with_advice_which_fills_the_form(
    person: httpx.Client, service: Service
) -> None:
    model, dataset = service.model(), service.dataset()
    assert "Choose a model" in read(person.get("/jobs/new"))
    page = person.get("/jobs/new", params={"model": model, "dataset": dataset})
    assert "80 % of the multiplications are in convolutions" in read(page)
    used = [
        unescape(link) for link in re.findall(r'href="(/jobs/new\?[^"]*advice=[^"]*)"', page.text)
    ]
    assert used
    for link in used:
        assert "This will run." in read(person.get(link)), link
    sent = {"model": model, "dataset": dataset, "minimize": "size", "max_quality_drop": "0.01"}
    smaller = send(person, "/jobs/new", do="plan", **sent)
    assert "minimize=size&max_quality_drop=0.01&advice=" in unescape(smaller.text)
    inspecting = service.http.post("/v1/models", content=b"new" * 9).json()["id"]
    assert "Advice needs a model that is ready" in read(send(person, "/jobs/new", model=inspecting))


def test_a_plan_that_htmx_asks_for_starts_no_job_whatever_button_was_pressed(
    person: httpx.Client, service: Service
) -> None:
    """A field that has changed is planned after "Start the job" was pressed, with its value."""
    model, dataset = service.model(), service.dataset()
    filled = {"model": model, "dataset": dataset, "steps.0.method": "quantize", "do": "submit"}
    form = {**filled, "form_token": form_token(person)}
    planned = person.post("/jobs/new", data=form, headers={"HX-Request": "true"})
    assert planned.status_code == 200
    assert "This will run." in read(planned)
    assert service.http.get("/v1/jobs", params={"model": model}).json()["items"] == []


def test_a_wish_keeps_what_was_filled_in(person: httpx.Client, service: Service) -> None:
    typed = {"model": service.model(), "dataset": service.dataset(), "name": "mine"}
    page = send(person, "/jobs/new", max_quality_drop="2 %", **typed)
    assert 'value="wish:smaller"' in page.text, "wishes stay once a model is chosen"
    wished = send(person, "/jobs/new", max_quality_drop="2 %", do="wish:smaller", **typed)
    form = filled(wished)
    assert {name: form[name] for name in typed} == typed
    assert (form["steps.0.mode"], form["max_quality_drop"]) == ("weight_only", "2 %")
    assert "wish:" not in wished.text
    job = send(person, "/jobs/new", **{**form, "do": "submit"}).headers["location"]
    assert service.http.get(f"/v1{job}").json()["require"] == {"max_quality_drop": 0.02}


def test_what_may_be_chosen_is_told_apart(person: httpx.Client, service: Service) -> None:
    models = [service.model(each * 100) for each in (b"one", b"two", b"another")]
    with service.store.begin() as session:
        for model in models:
            session.get_one(ModelRow, model).name = "net"
    rejected = service.rejected_model()
    page = person.get("/jobs/new").text
    labels = re.findall(r'<option value="mdl_\w+">(.*?)</option>', page)
    mine = [label for label in labels if label.startswith("net")]
    assert len(set(mine)) == 3
    assert all(re.match(r"net, \d+ B, \d{4}-\d\d-\d\d", label) for label in mine)
    assert rejected not in page
    chosen = person.get("/jobs/new", params={"model": rejected}).text
    assert re.search(rf'<option value="{rejected}" selected>[^<]*\(rejected\)', chosen)


def test_a_file_that_was_sent_again_is_offered_once(person: httpx.Client, service: Service) -> None:
    older, _, newest = [service.model() for _ in range(3)]
    other = service.model(b"another" * 50)

    def offered(path: str, **chosen: str) -> list[str]:
        page = person.get(path, params=chosen).text
        (one,) = re.findall(r'<select name="model".*?</select>', page, re.DOTALL)
        return re.findall(r'<option value="(mdl_\w+)"', one)

    for form in ("/jobs/new", "/searches/new"):
        assert offered(form) == [other, newest]
        assert offered(form, model=older) == [other, newest, older], "what was chosen is there"
    assert len(offered("/jobs")) == 4, "each has jobs of its own"
