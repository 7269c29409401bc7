"""The pages of jobs: one is composed, with or without advice, and looked at."""

import json
import os
import re
import subprocess
from html import escape, unescape
from typing import Any

import httpx
from sqlalchemy import select

from app.domain.methods import methods
from app.store import events, transitions
from app.store.tables import JobRow, ModelRow
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
    assert page.text.count('href="/jobs/' + ended[1]) == 3  # two dots of the picture, and its words
    file = f"model-quantize-{ended[0][-6:]}.onnx"
    assert f'InferenceSession("{file}")' in read(page), "it is the file that the browser saves"
    report = person.get(f"/jobs/{ended[0]}/report.json").headers["content-disposition"]
    assert f'filename="model-quantize-{ended[0][-6:]}-report.json"' in report


def test_the_log_of_a_job_tells_of_its_stages_from_the_first_on(
    person: httpx.Client, service: Service
) -> None:
    job = service.job()["id"]

    def told() -> list[str]:
        page = person.get(f"/jobs/{job}").text
        log = re.search(r'<pre id="log"[^>]*>(.*?)</pre>', page, re.DOTALL)
        assert log is not None
        lines = unescape(log[1]).strip().splitlines()
        assert all(re.match(r"\d\d:\d\d:\d\d \S", line) for line in lines), lines
        return [line[9:] for line in lines]

    assert told() == ["queued"]
    service.start(job)
    with service.store.begin() as session:
        for share in (0.6, 0.7):
            progress = {"progress": share, "stage": "quantize", "eta_seconds": None}
            events.append(session, job, "progress", progress)
            events.append(session, job, "log", {"level": "info", "message": "<b>said"})
    assert told() == ["queued", "starting", "quantize", "<b>said", "<b>said"]
    service.finish(job, failed=True)
    assert told()[-2:] == ["<b>said", "failed"]


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
    assert "must be a number" in unescape(field[1])
    assert "Step 1, Share to remove: must be a number" in read(answer)
    assert "#/" not in read(answer), "no page shows a JSON pointer"


def test_jobs_without_names_are_told_apart_by_model_and_parameters(
    person: httpx.Client, service: Service
) -> None:
    model = service.model()
    with service.store.begin() as session:
        session.get_one(ModelRow, model).filename = "a<b.onnx"
    asked: list[dict[str, Any]] = [
        {},
        {"steps": [{"method": "quantize", "weights": "int4", "mode": "weight_only"}]},
        {"steps": [{"method": "prune", "ratio": 0.25}, {"method": "cluster", "clusters": 8}]},
        {"steps": None, "objective": {"minimize": "size"}},
        {"steps": [], "deliver": ["onnx", "ort"]},
    ]
    works = [
        "Quantization (mode dynamic)",
        "Quantization (mode weight_only, weights int4)",
        "Pruning (ratio 0.25) → Weight sharing (clusters 8)",
        "Search for less size",
        "Other formats (onnx, ort)",
    ]
    service.worker("onnx")
    service.worker("ort")
    named = service.job(model, name="mine")
    service.finish(named["id"])
    assert named["title"] == "mine"
    jobs = [service.job(model, **body) for body in asked]
    titles = [f"a<b.onnx: {work}" for work in works]
    assert [job["title"] for job in jobs] == titles
    listed = service.http.get("/v1/jobs", params={"model": model}).json()["items"]
    assert [job["title"] for job in reversed(listed)] == ["mine", *titles]
    for path, called in (("/", titles), ("/jobs", titles), (f"/models/{model}", works)):
        page = person.get(path).text
        for job, words in zip(jobs, called, strict=True):
            assert f'href="/jobs/{job["id"]}"><bdi>{escape(words)}</bdi></a>' in page, path
        work = escape(called[0])
        assert f">mine</bdi></a><small><bdi>{work}</bdi></small>" in page, path
    assert f"<h1><bdi>{escape(titles[0])}</bdi></h1>" in person.get(f"/jobs/{jobs[0]['id']}").text


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


def test_jobs_are_listed_by_state_model_and_tag_a_page_at_a_time(
    person: httpx.Client, service: Service
) -> None:
    """Without JavaScript; what was chosen is kept from one page to the next."""
    first, second = service.model(), service.model(b"another" * 30)
    tagged = list[str]()
    for _ in range(27):
        _end_all(service)
        tagged.append(service.job(first, tags=["a & b"])["id"])
    other = service.job(second)["id"]

    def listed(query: str) -> list[str]:
        page = person.get(f"/jobs?{query}").text
        return re.findall(r'<th scope="row"><a href="/jobs/(job_\w+)"', page)

    assert listed("status=queued") == [other, tagged[-1]]
    assert listed(f"status=queued&model={second}&tag=") == [other]
    assert listed(f"model={first}&tag=a+%26+b") == tagged[:1:-1]
    page = person.get(f"/jobs?status=&model={first}&tag=a+%26+b")
    assert f'<option value="{first}" selected>' in page.text
    assert 'name="tag" value="a &amp; b"' in page.text
    older = re.search(r'<a href="([^"]+)">Older ones', page.text)
    assert older is not None
    assert listed(unescape(older[1]).partition("?")[2]) == tagged[1::-1]
    assert "No job matches." in read(person.get("/jobs?tag=nothing"))
    assert "Show all jobs" not in read(person.get("/jobs"))
    wrong = person.get("/jobs?status=lost")
    assert wrong.status_code == 422
    assert "Status: must be one of 'queued', 'running', 'succeeded'," in read(wrong)
    assert "#/" not in read(wrong)


def _end_all(service: Service) -> None:
    """Let every job end that waits, so that no quota is reached."""
    with service.store.begin() as session:
        for job in session.scalars(select(JobRow).where(JobRow.status == "queued")):
            transitions.finish(session, job, "succeeded")


def _wrong(page: str, place: str) -> str:
    """Return what is said to be wrong at a place of a form."""
    found = re.search(rf'<div [^>]*data-wrong="{place}">(.*?)</div>', page, re.DOTALL)
    assert found is not None, place
    return re.sub("<[^>]*>", "", unescape(found[1]))


def test_what_is_missing_is_said_at_its_field_in_the_words_of_the_form(
    person: httpx.Client, service: Service
) -> None:
    model = service.model()
    half = person.get("/jobs/new", params={"model": model, "goal": "half"}).text
    choose = "Choose data, or “made from the model”: step 1 needs samples."
    assert _wrong(half, "#/dataset") == choose
    assert "choose one in “Data”, have it made" in _wrong(half, "#/steps/0")
    sent = {"model": model, "steps.0.method": "quantize", "steps.0.mode": "static"}
    assert _wrong(send(person, "/jobs/new", do="submit", **sent).text, "#/dataset") == choose
    assert "This will run" not in half
    assert "'dataset'" not in half
    made = {"model": model, "dataset": "generated", "goal": "half"}
    assert _wrong(person.get("/jobs/new", params=made).text, "#/dataset") == ""
    nothing = send(person, "/jobs/new", do="submit", model=model).text
    assert "name a step, or another format" in _wrong(nothing, "#/steps")
    assert "Model: is required" in read(send(person, "/jobs/new", do="submit"))


def test_a_field_of_a_step_is_not_called_as_one_of_the_form(
    person: httpx.Client, service: Service
) -> None:
    asked = {"steps.0.method": "distill", "steps.0.student.width": "0.5"}
    page = send(person, "/jobs/new", do="plan", model=service.model(), **asked).text
    words = "must have one of the fields 'architecture', 'model' and 'derive'"
    assert words in _wrong(page, "#/steps/0/student")


def test_nothing_is_promised_of_what_is_still_being_looked_at(
    person: httpx.Client, service: Service
) -> None:
    inspecting = service.http.post("/v1/models", content=b"new" * 9).json()["id"]
    metric = {"more.evaluate.metric.model": inspecting, "dataset": service.dataset()}
    for asked in ({"model": inspecting}, {"model": service.model(), **metric}):
        sent = {**asked, "steps.0.method": "quantize"}
        page = read(send(person, "/jobs/new", do="plan", **sent))
        assert "Nothing speaks against it so far" in page
        assert "This will run" not in page


def test_nonsense_is_not_said_to_work(person: httpx.Client, service: Service) -> None:
    asked = {"model": service.model(), "dataset": service.dataset(), "steps.0.method": "quantize"}

    def planned(**more: str) -> str:
        return send(person, "/jobs/new", do="plan", **asked, **more).text

    nothing = planned(**{"steps.0.operators": "Foo"})
    assert "Nothing will change" in nothing
    assert "This will run" not in nothing
    assert "has no operator 'Foo'" in _wrong(nothing, "#/steps/0/operators")
    absent = planned(**{"steps.0.ignore": "/nothing/*"})
    assert "no layer of the model is called '/nothing/*'" in _wrong(absent, "#/steps/0/ignore")
    loose = planned(max_quality_drop="50")
    assert "Write 0.5 for 50 %." in _wrong(loose, "#/require/max_quality_drop")
    assert "aria-invalid" not in loose, "what is doubtful is taken"
    assert _wrong(planned(max_quality_drop="50 %"), "#/require/max_quality_drop") == ""


def test_an_entry_that_is_wrong_is_named(person: httpx.Client, service: Service) -> None:
    asked = {"model": service.model(), "steps.0.method": "prune", "do": "submit"}
    long = "t" * 65
    typed = {"steps.0.block": "4,b", "more.deliver": "foo", "more.tags": f"a\n{long}"}
    page = send(person, "/jobs/new", **asked, **typed).text
    assert _wrong(page, "#/steps/0/block") == "“b” must be a whole number, such as 4"
    assert _wrong(page, "#/tags") == f"“{long[:40]}…” must have 64 characters at most"
    assert "“foo” is no format" in _wrong(page, "#/deliver")
    assert "One a line: onnx." in page
    for name in ("steps.0.block", "more.deliver", "more.tags"):
        assert re.search(rf'name="{name}"[^>]* aria-invalid="true"', page), name
    assert f"Tags, “{long[:40]}…”: must have" in unescape(page)
    assert "Choose a step, and this says" in read(person.get("/jobs/new?model=" + asked["model"]))


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


def test_a_share_is_typed_as_a_number_or_in_percent(person: httpx.Client, service: Service) -> None:
    asked = {"model": service.model(), "steps.0.method": "prune", "do": "submit"}
    sent = send(person, "/jobs/new", **{**asked, "steps.0.ratio": "30 %"})
    job = service.http.get(f"/v1{sent.headers['location']}").json()
    assert job["steps"][0]["ratio"] == 0.3
    for text in ("0,3", "a third"):
        wrong = send(person, "/jobs/new", **{**asked, "steps.0.ratio": text}).text
        assert "must be a number, such as 0.5" in _wrong(wrong, "#/steps/0/ratio")
        assert "More than 0, less than 1. 0.05 and 5 % are the same." in unescape(wrong)


def test_bounds_that_a_form_names_are_taken(person: httpx.Client, service: Service) -> None:
    page = person.get("/jobs/new").text
    assert "0 to 4294967295." in page
    asked = {"model": service.model(), "steps.0.method": "cluster", "do": "submit"}
    assert send(person, "/jobs/new", **{"more.seed": "4294967295"}, **asked).status_code == 303
    wrong = send(person, "/jobs/new", **{"more.seed": "4294967296"}, **asked).text
    assert "must be 4294967295 at most" in _wrong(wrong, "#/seed")


def test_what_may_be_chosen_is_told_apart(person: httpx.Client, service: Service) -> None:
    models = [service.model(), service.model(), service.model(b"another" * 50)]
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
