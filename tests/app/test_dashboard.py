"""The pages for people: for those who logged in, of their tenant alone, every fault in words."""

import re
from base64 import b64encode
from html import unescape
from typing import Any

import httpx
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, update

from app.domain.models import Node
from app.services import keys
from app.store.tables import BrowserSessionRow
from app.web.dashboard.drawing import drawn
from tests.app.people import HTML, browser, form_token, read, send
from tests.app.service import Service

PAGES = (
    "/",
    "/models",
    "/datasets",
    "/jobs",
    "/jobs/new",
    "/searches/new",
    "/devices",
    "/webhooks",
    "/keys",
    "/usage",
)


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


def test_whoever_logs_in_comes_to_what_was_asked_for(service: Service) -> None:
    path = "/jobs/compare?job=job_a&job=job_b"
    with service.store.begin() as session:
        _, key = keys.create(session, "acme", "browser")
    with httpx.Client(base_url=service.url, headers=HTML) as stranger:
        longer = stranger.get(f"/usage?{'x' * 3000}")
        assert longer.headers["location"] == "/login?back=%2Fusage"
        page = stranger.get(stranger.get(path).headers["location"])
        [place] = re.findall(r'action="(/login[^"]*)"', page.text)
        answer = stranger.post(unescape(place), data={"key": key})
        assert (answer.status_code, answer.headers["location"]) == (303, path)


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


def test_a_model_of_any_size_says_for_which_its_work_is_counted(
    person: httpx.Client, service: Service
) -> None:
    fixed, free = service.model(), service.model(b"free" * 20, sample_sizes={"width": 320})
    assert "for one sample with" not in read(person.get(f"/models/{fixed}"))
    shown = read(person.get(f"/models/{free}"))
    assert "for one sample with width = 320 ; a job counts for its own samples" in shown
    assert service.http.get(f"/v1/models/{free}").json()["sample_sizes"] == {"width": 320}


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
    for curve in drawing.curves:
        x0, _, x1, _, x2, _, x3, _ = map(float, re.findall(r"[\d.]+", curve))
        along = [i / 50 for i in range(51)]
        at = [
            (1 - t) ** 3 * x0 + 3 * (1 - t) ** 2 * t * x1 + 3 * (1 - t) * t**2 * x2 + t**3 * x3
            for t in along
        ]
        assert 0 <= min(at) <= max(at) <= drawing.width
    for node, (x, y) in zip(nodes, places, strict=True):
        assert all(places[source][1] < y for source in node.reads)
        assert 0 <= x <= drawing.width - drawing.box_width
        assert 0 <= y <= drawing.height - drawing.box_height
