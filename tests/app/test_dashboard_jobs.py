"""The pages of jobs: one is composed, with or without advice, and looked at."""

import re
from html import unescape

import httpx

from app.domain.methods import methods
from app.store import events
from app.web.dashboard.forms import fields
from tests.app.people import form_token, read, send
from tests.app.service import Service


def test_a_goal_becomes_a_job(person: httpx.Client, service: Service) -> None:
    model, dataset = service.model(), service.dataset()
    page = person.get("/jobs/new", params={"model": model, "dataset": dataset, "goal": "both"})
    assert "This will work." in read(page)
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
    assert f"{step} --max-drop 0.01 -o smaller.onnx" in copied
    assert 'value="0.01"' in like.text
    assert re.search(r"<option selected>dynamic</option>", like.text)


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
    phone, option = "/jobs/new?goal=phone", r'<option value="mobile-litert"(?: disabled)?>[^<]*'
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


def test_a_finished_job_keeps_its_log_and_stands_beside_the_others_of_its_model(
    person: httpx.Client, service: Service
) -> None:
    ended = [service.job(model := service.model())["id"], service.job(model)["id"]]
    for job in ended:
        with service.store.begin() as session:
            said = {
                "level": "info",
                "message": f"<b>said</b> of {job}",
                "at": "2026-01-01T00:00:00Z",
            }
            events.append(session, job, "log", said)
            for epoch, loss in ((0, 0.5), (1, 0.9), (1, 0.25)):  # the last epoch was made again
                figure = {"step": 0, "name": "<i>loss", "value": loss, "epoch": epoch}
                events.append(session, job, "metric", figure)
            events.append(session, job, "metric", {"step": 1, "name": "best", "value": 0.1})
        service.finish(job)
    page = person.get(f"/jobs/{ended[0]}")
    assert '<polyline class="line0" points="20.0,20.0 620.0,180.0"/>' in page.text
    assert "How training went <i>loss 0.25" in read(page)
    assert "<i>loss" not in page.text
    assert f"<b>said</b> of {ended[0]}" in read(page)
    assert "<b>said" not in page.text
    assert page.text.count('href="/jobs/' + ended[1]) == 2  # a dot of the picture, and its words
    assert 'InferenceSession("model.onnx")' in read(page)


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


def test_what_is_wrong_stands_beside_its_field_and_nothing_typed_is_lost(
    person: httpx.Client, service: Service
) -> None:
    model = service.model()
    typed = {"steps.0.method": "prune", "steps.0.ratio": "seven", "steps.0.block": "{not json"}
    answer = send(person, "/jobs/new", do="submit", model=model, name="mine", **typed)
    assert answer.status_code == 422
    for text in ("seven", "{not json", "mine"):
        assert text in answer.text
    field = re.search(r'name="steps.0.ratio".*?role="alert"><bdi>(.*?)<', answer.text, re.DOTALL)
    assert field is not None
    assert "valid number" in unescape(field[1])
    assert "Step 1, Share to remove: Input should be a valid number" in read(answer)
    assert "#/" not in read(answer), "no page shows a JSON pointer"


def test_a_job_without_a_name_is_called_by_what_it_does(
    person: httpx.Client, service: Service
) -> None:
    model = service.model()
    job, named = service.job(model)["id"], service.job(model, name="mine")["id"]
    for path in ("/", "/jobs", f"/models/{model}", f"/jobs/compare?job={job}&job={named}"):
        page = person.get(path).text
        assert f">Quantization</bdi></a><small><code>{job}</code></small>" in page, path
        assert ">mine</bdi></a><small>Quantization</small>" in page, path
    assert "<h1><bdi>Quantization</bdi></h1>" in person.get(f"/jobs/{job}").text
    search = service.job(model, steps=None, objective={"minimize": "size"})["id"]
    assert "<h1><bdi>Search</bdi></h1>" in person.get(f"/jobs/{search}").text


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
        assert "This will work." in read(person.get(link)), link
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
    assert "This will work." in read(planned)
    assert service.http.get("/v1/jobs", params={"model": model}).json()["items"] == []
