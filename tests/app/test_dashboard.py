"""The pages for people: for those who logged in, of their tenant alone, every fault in words."""

import re
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, update

from app.domain.methods import methods
from app.domain.models import Node
from app.services import keys
from app.settings import Settings
from app.store import events
from app.store.session import Sessions
from app.store.tables import BrowserSessionRow, ModelRow
from app.web.dashboard.drawing import drawn
from app.web.dashboard.forms import fields
from tests.app.service import Service
from tests.gateway import serving

PAGES = (
    "/",
    "/models",
    "/datasets",
    "/jobs",
    "/jobs/new",
    "/searches/new",
    "/webhooks",
    "/keys",
    "/usage",
)
HTML = {"Accept": "text/html"}


@contextmanager
def browser(service: Service, tenant: str = "acme", **options: Any) -> Iterator[httpx.Client]:
    """Hand out a browser that is logged in for a tenant."""
    with service.store.begin() as session:
        _, key = keys.create(session, tenant, "browser", **options)
    with httpx.Client(base_url=service.url, headers=HTML, timeout=30) as client:
        answer = client.post("/login", data={"key": key})
        assert answer.status_code == 303, answer.text
        yield client


@pytest.fixture
def person(service: Service) -> Iterator[httpx.Client]:
    with browser(service) as client:
        yield client


def form_token(client: httpx.Client) -> str:
    match = re.search(r'name="form_token" value="([0-9a-f]+)"', client.get("/jobs/new").text)
    assert match is not None
    return match[1]


def send(client: httpx.Client, path: str, **fields: str) -> httpx.Response:
    """Send a form of ours."""
    return client.post(path, data={"form_token": form_token(client), **fields})


def read(answer: httpx.Response) -> str:
    """Return a page's words."""
    assert answer.headers["content-type"].startswith("text/html")
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", answer.text)).split())


def test_whoever_is_not_logged_in_is_asked_to(service: Service) -> None:
    with httpx.Client(base_url=service.url, headers=HTML) as stranger:
        for path in PAGES:
            answer = stranger.get(path)
            assert answer.status_code == 303
            assert answer.headers["location"].startswith("/login?back=")
        assert "Log in" in read(stranger.get("/login"))
        wrong = stranger.post("/login", data={"key": "plk_wrong"})
        assert wrong.status_code == 401
        assert "unknown, expired or revoked" in read(wrong)
        assert "set-cookie" not in wrong.headers


def test_after_login_one_is_where_one_wanted_to_be_and_never_elsewhere(service: Service) -> None:
    with service.store.begin() as session:
        _, key = keys.create(session, "acme", "browser")
    with httpx.Client(base_url=service.url) as client:
        for back, to in (("/usage", "/usage"), ("//evil.test", "/"), ("https://evil.test", "/")):
            answer = client.post("/login", params={"back": back}, data={"key": key})
            assert answer.headers["location"] == to
            cookie = answer.headers["set-cookie"]
            assert "HttpOnly" in cookie
            assert "SameSite=lax" in cookie
            assert key not in cookie


def test_every_page_is_shown_under_the_strict_policy_without_inline_scripts_or_styles(
    person: httpx.Client, service: Service
) -> None:
    model, dataset = service.model(), service.dataset()
    job = service.job(model, dataset=dataset)["id"]
    service.start(job)
    service.finish(job)
    more = (f"/models/{model}", f"/datasets/{dataset}", f"/jobs/{job}", f"/jobs/compare?job={job}")
    for path in (*PAGES, *more, f"/jobs/new?like={job}", "/nowhere"):
        answer = person.get(path)
        assert answer.status_code == (404 if path == "/nowhere" else 200), path
        assert "script-src 'self'" in answer.headers["content-security-policy"], path
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", answer.text), path
        for address in re.findall(r'(?:src|href)="(/static/[^"]+)"', answer.text):
            assert person.get(address).is_success, address


def test_names_are_text_whatever_markup_they_hold(person: httpx.Client, service: Service) -> None:
    job = service.job(name="<script>alert(1)</script>")["id"]
    service.start(job)
    service.finish(job)
    for path in ("/", "/jobs", f"/jobs/{job}"):
        page = person.get(path).text
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_a_form_of_another_session_or_site_changes_nothing(
    person: httpx.Client, service: Service
) -> None:
    with browser(service) as other:
        stolen = form_token(other)
    for token in ("", "0" * 64, stolen):
        answer = person.post("/keys", data={"name": "mine", "form_token": token})
        assert answer.status_code == 403
        assert "out of date" in read(answer)
    assert "mine" not in read(person.get("/keys"))


def test_another_tenants_things_are_not_there(service: Service) -> None:
    model, dataset = service.model(), service.dataset()
    job = service.job(model, dataset=dataset)["id"]
    service.start(job)
    artifact = service.finish(job)
    reading = (
        f"/models/{model}", f"/models/{model}/content", f"/datasets/{dataset}", f"/jobs/{job}",
        f"/jobs/{job}/state", f"/jobs/{job}/events", f"/jobs/{job}/report",
        f"/jobs/{job}/report.json", f"/artifacts/{artifact}", f"/jobs/compare?job={job}",
        f"/jobs/new?like={job}",
    )  # fmt: skip
    changing = (
        f"/models/{model}/delete", f"/datasets/{dataset}/delete", f"/jobs/{job}/cancel",
        f"/jobs/{job}/retry", f"/jobs/{job}/delete",
    )  # fmt: skip
    with browser(service, "other") as stranger:
        for path in reading:
            assert stranger.get(path).status_code == 404, path
        for path in changing:
            assert send(stranger, path).status_code == 404, path
        for path in PAGES:
            assert model not in stranger.get(path).text, path
            assert job not in stranger.get(path).text, path


def test_a_key_that_may_only_read_changes_nothing(service: Service) -> None:
    with browser(service, scopes=("read",)) as reader:
        assert reader.get("/").is_success
        answer = send(reader, "/keys", name="mine")
        assert answer.status_code == 403
        assert "'write'" in read(answer)


def test_log_out_ends_the_session_and_so_does_a_revoked_key(service: Service) -> None:
    with browser(service) as person:
        cookies = dict(person.cookies)
        send(person, "/logout")
        for token in cookies.values():
            person.cookies.set("planish_session", token)
        assert person.get("/").status_code == 303
    with browser(service) as person:
        own = re.findall(r"/keys/(key_\w+)/revoke", person.get("/keys").text)
        send(person, f"/keys/{own[0]}/revoke")
        assert person.get("/").status_code == 303


def test_a_session_ends_after_its_hours(service: Service) -> None:
    with browser(service) as person:
        assert person.get("/").is_success
        with service.store.begin() as session:
            session.execute(update(BrowserSessionRow).values(expires_at=func.now()))
        ended = person.get("/usage")
        assert (ended.status_code, ended.headers["location"]) == (303, "/login?back=%2Fusage")


def test_a_model_is_uploaded_by_a_form(person: httpx.Client) -> None:
    token = form_token(person)
    files = {"file": ("small.onnx", b"not yet looked at" * 10)}
    answer = person.post("/models", params={"form_token": token}, files=files)
    assert answer.status_code == 303
    assert "small.onnx" in read(person.get(answer.headers["location"]))
    refused = person.post("/models", params={"form_token": token}, files={"file": ("a", b"")})
    assert refused.status_code == 422
    assert "empty" in read(refused)
    assert person.post("/models", files=files).status_code == 403


def test_the_first_view_is_small(person: httpx.Client, service: Service) -> None:
    """The start page of a tenant with jobs, and all that it loads: under 200 kB."""
    for _ in range(5):
        service.finish(service.job()["id"])
    page = person.get("/")
    loaded = re.findall(r'(?:src|href)="(/static/[^"]+)"', page.text)
    assert len(loaded) >= 4
    assert sum(len(answer.content) for answer in [page, *map(person.get, loaded)]) < 200_000


def test_a_page_waits_for_no_script_and_its_files_are_kept_and_compressed(
    person: httpx.Client,
) -> None:
    page = person.get("/").text
    head = page.partition("</head>")[0]
    scripts = re.findall(r"<script [^>]+>", page)
    assert scripts
    assert all(" defer" in tag or 'type="module"' in tag for tag in scripts)
    assert '<html lang="en">' in head
    assert re.search(r"<title>\S.* · Planish</title>", head)
    assert re.search(r'<meta name="description" content="[^"]{50,}">', head)
    for address in re.findall(r'(?:src|href)="(/static/[^"]+)"', page):
        plain = person.get(address, headers={"Accept-Encoding": "identity"})
        packed = person.get(address, headers={"Accept-Encoding": "gzip, br"})
        assert packed.content == plain.content
        assert packed.headers["content-encoding"] == "gzip"
        assert int(packed.headers["content-length"]) < len(plain.content)
        assert "immutable" in packed.headers["cache-control"]
        assert packed.headers["vary"] == "Accept-Encoding"
        assert "content-encoding" not in plain.headers


def test_a_page_sends_a_file_in_parts_under_its_session(
    person: httpx.Client, service: Service
) -> None:
    token = {"form_token": form_token(person)}
    content = b"not yet looked at" * 10
    length = {"Upload-Length": str(len(content)), "Upload-Metadata": "filename YS5vbm54"}
    bytes_ = {"Content-Type": "application/offset+octet-stream"}
    begun = person.post("/uploads", params=token, headers=length)
    assert begun.status_code == 201
    upload = begun.headers["location"].rpartition("/")[2]
    place = f"/uploads/{upload}"
    for start, end in ((0, 50), (50, len(content))):
        headers = {**bytes_, "Upload-Offset": str(start)}
        sent = person.patch(place, params=token, headers=headers, content=content[start:end])
        assert sent.status_code == 204
    assert person.head(place, params=token).headers["upload-offset"] == str(len(content))
    for method, path in (("POST", "/uploads"), ("HEAD", place), ("PATCH", place)):
        assert person.request(method, path, headers=length).status_code == 403
    with browser(service, "other") as stranger:
        theirs = {"form_token": form_token(stranger)}
        assert stranger.head(place, params=theirs).status_code == 404
        taken = stranger.post("/models", params={**theirs, "upload_id": upload})
        assert taken.status_code == 422
    made = person.post("/models", params={**token, "upload_id": upload, "cache": "true"})
    assert made.status_code == 303
    assert _hints(service.store, made.headers["location"])["cache"] is True
    assert "a.onnx" in read(person.get(made.headers["location"]))
    with httpx.Client(base_url=service.url) as nobody:
        assert nobody.post("/uploads", headers=length).headers["location"].startswith("/login")


def test_a_model_is_fetched_from_the_address_that_a_form_names(
    settings: Settings, store: Sessions, person: httpx.Client
) -> None:
    assert "Fetch it from an address" not in read(person.get("/models"))
    given = {**settings.model_dump(), "fetch": {"allowed": "https://models.example.com"}}
    with (
        serving(Settings.model_validate(given)) as url,
        browser(Service(url, person, person, store)) as visitor,
    ):
        assert "Fetch it from an address" in read(visitor.get("/datasets"))
        address = {"url": "https://models.example.com/net.onnx", "sha256": ""}
        made = send(visitor, "/models/fetch", **address, cache="true")
        assert made.status_code == 303
        assert "net.onnx" in read(visitor.get(made.headers["location"]))
        assert _hints(store, made.headers["location"])["cache"] is True
        for wrong, words in (
            ({"url": "https://elsewhere.example.com/a"}, "FETCH_ALLOWED"),
            ({"url": "ftp://x"}, "https://"),
            ({**address, "sha256": "abc"}, "sha256"),
            ({}, "url"),
        ):
            refused = send(visitor, "/models/fetch", **wrong)
            assert refused.status_code == 422
            assert words in read(refused)
        assert visitor.post("/models/fetch", data=address).status_code == 403


def _hints(store: Sessions, page: str) -> dict[str, Any]:
    """Return what was said of the file of the model with this page."""
    with store() as session:
        return session.get_one(ModelRow, page.rpartition("/")[2]).hints


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
    assert page.text.count('href="/jobs/' + ended[1]) == 1
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
    typed = {"steps.0.method": "prune", "steps.0.ratio": "seven", "steps.0.recover": "{not json"}
    answer = send(person, "/jobs/new", do="submit", model=model, name="mine", **typed)
    assert answer.status_code == 422
    for text in ("seven", "{not json", "mine"):
        assert text in answer.text
    field = re.search(r'name="steps.0.ratio".*?role="alert"><bdi>(.*?)<', answer.text, re.DOTALL)
    assert field is not None
    assert "valid number" in unescape(field[1])


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


def test_webhooks_and_keys_are_made_here_and_their_secrets_shown_once(
    person: httpx.Client,
) -> None:
    made = send(person, "/webhooks", url="https://example.com/hook")
    assert "whsec_" in made.text
    assert "whsec_" not in person.get("/webhooks").text
    hook = re.search(r"/webhooks/(whk_\w+)/rotate", made.text)
    assert hook is not None
    assert "whsec_" in send(person, f"/webhooks/{hook[1]}/rotate").text
    assert send(person, f"/webhooks/{hook[1]}/test").is_success
    private = send(person, "/webhooks", url="http://10.0.0.1/")
    assert private.status_code == 422
    assert "not a public address" in read(private)
    assert "whk_" not in send(person, f"/webhooks/{hook[1]}/delete").text
    key = send(person, "/keys", name="ci", scopes="read")
    assert "plk_" in key.text
    assert "ci" in read(person.get("/keys"))


def test_every_parameter_of_every_method_has_a_field() -> None:
    for method in methods():
        names = {field.name for field in fields(method)}
        assert names == set(method.json_schema["properties"]) - {"method"}
        assert any(not field.advanced for field in fields(method))


def test_programs_still_get_problems_where_people_get_pages(service: Service) -> None:
    answer = service.http.get("/nowhere")
    assert answer.headers["content-type"] == "application/problem+json"
    answer = service.http.get("/v1/jobs/nothing", headers=HTML)
    assert answer.headers["content-type"] == "application/problem+json"


def test_samples_are_shown_as_pictures_waves_and_numbers_to_their_tenant_alone(
    person: httpx.Client, service: Service
) -> None:
    png = b"\x89PNG\r\n\x1a\n and so on"
    shown: list[dict[str, Any]] = [
        {"kind": "picture", "png": b64encode(png).decode()},
        {"kind": "wave", "lows": [-1.0, -0.5], "highs": [0.5, 1.0]},
        {"kind": "numbers", "text": "<b>1, 2</b>"},
    ]
    glimpses = [
        {"array": "x", "sample": index, "target": "cat", "shown": look}
        for index, look in enumerate(shown)
    ]
    targets = {"dtype": "int64", "shape": [3], "classes": ["cat", "dog"], "counts": [1, 2]}
    dataset = service.dataset(glimpses=glimpses, targets=targets)
    page = person.get(f"/datasets/{dataset}")
    assert "&lt;b&gt;1, 2&lt;/b&gt;" in page.text
    assert '<svg class="wave"' in page.text
    assert "dog 2" in read(page)
    assert "A look at it" in read(page)
    (listed,) = service.http.get("/v1/datasets").json()["items"]
    assert listed == service.http.get(f"/v1/datasets/{dataset}").json()
    assert "glimpses" not in listed
    picture = person.get(f"/datasets/{dataset}/pictures/0")
    assert picture.content == png
    assert picture.headers["content-type"] == "image/png"
    for number in ("1", "99", "-1"):
        assert person.get(f"/datasets/{dataset}/pictures/{number}").status_code == 404
    with browser(service, "other") as stranger:
        assert stranger.get(f"/datasets/{dataset}/pictures/0").status_code == 404


def test_a_page_tells_its_origin_to_this_service_alone(person: httpx.Client) -> None:
    """With no referrer at all, browsers send ``Origin: null`` with forms, which is refused."""
    answer = person.get("/")
    assert answer.headers["referrer-policy"] == "same-origin"
    assert '<meta name="referrer" content="same-origin">' in answer.text


def test_the_graph_is_drawn_from_its_inputs_down(person: httpx.Client, service: Service) -> None:
    nodes = [
        {"name": "conv", "operator": "Conv", "reads": []},
        {"name": "relu", "operator": "Relu", "reads": [0]},
        {"name": "<i>", "operator": "Add", "reads": [0, 1]},
    ]
    spread = {"conv": {"low": -0.5, "high": 0.25, "counts": [1, 0, 4]}}
    model = service.model(nodes=nodes, distributions=spread)
    page = person.get(f"/models/{model}/graph").text
    assert page.count("<rect") == 3
    (listed,) = service.http.get("/v1/models").json()["items"]
    assert listed == service.http.get(f"/v1/models/{model}").json()
    assert "Add &lt;i&gt;" in page
    assert re.search(r'class="weighty"><title>Conv conv, 300 parameters', page)
    assert 'aria-label="Weights from -0.5 to 0.25"' in person.get(f"/models/{model}").text
    assert "more nodes than are drawn" in person.get(f"/models/{service.model()}/graph").text
    with browser(service, "other") as stranger:
        assert stranger.get(f"/models/{model}/graph").status_code == 404


@given(st.lists(st.lists(st.integers(0, 30), max_size=3), max_size=30))
def test_every_node_of_a_drawing_stands_below_what_it_reads_and_on_no_other(
    reads: list[list[int]],
) -> None:
    nodes = [
        Node(name="", operator="Add", reads=sorted({source for source in each if source < index}))
        for index, each in enumerate(reads)
    ]
    drawing = drawn(nodes)
    places = [(box.x, box.y) for box in drawing.boxes]
    assert len(set(places)) == len(nodes)
    assert len(drawing.curves) == sum(len(node.reads) for node in nodes)
    for node, (x, y) in zip(nodes, places, strict=True):
        assert all(places[source][1] < y for source in node.reads)
        assert 0 <= x <= drawing.width - drawing.box_width
        assert 0 <= y <= drawing.height - drawing.box_height


def test_a_rejected_file_is_read_again_with_what_it_does_not_tell(
    person: httpx.Client, service: Service
) -> None:
    model = service.rejected_model()
    assert "Read it again" in read(person.get(f"/models/{model}"))
    wrong = send(person, f"/models/{model}/again", architecture="mine", inputs="")
    assert wrong.status_code == 422
    assert "must be a name such as timm/" in read(wrong)
    assert 'value="mine"' in wrong.text
    assert send(person, f"/models/{model}/again", inputs="[{}]").status_code == 422
    shape = '[{"name": "x", "dtype": "float32", "shape": ["batch", 3]}]'
    answer = send(person, f"/models/{model}/again", inputs=shape, cache="true")
    assert answer.status_code == 303
    assert _hints(service.store, answer.headers["location"])["cache"] is True
    again = service.http.get(f"/v1{answer.headers['location']}").json()
    assert (again["status"], again["id"] != model) == ("inspecting", True)
    assert again["sha256"] == service.http.get(f"/v1/models/{model}").json()["sha256"]
    assert send(person, f"/models/{again['id']}/again").status_code == 409
    with browser(service, "other") as stranger:
        assert send(stranger, f"/models/{model}/again").status_code == 404


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
