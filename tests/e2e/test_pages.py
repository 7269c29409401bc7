"""The dashboard in a real browser: what a person does."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import onnx
from playwright.sync_api import Browser, Page, Request

from tests.cutting import cutting
from tests.e2e.service import Service, small_model
from tests.e2e.visits import WIDE, labelled_images, upload, visiting
from tests.waiting import eventually

CLICKED_TWICE = """button => {
    let sent = 0;
    addEventListener("submit", event => {
        sent += event.defaultPrevented ? 0 : 1;
        event.preventDefault();
    });
    button.click();
    button.click();
    return sent;
}"""
"""How many of two clicks send a form; it is kept here."""

EVENTS = """address => new Promise(done => {
    const told = [];
    const events = new EventSource(address);
    events.addEventListener("state", event => {
        told.push(JSON.parse(event.data).status);
        if (told.length < 3) return;
        events.close();
        setTimeout(done, 500, told);
    });
})"""
"""What a stream says of a job's first three states; half a second for the page to act on them."""

FOCUSED = "document.activeElement.textContent.trim()"
MOST_STOPS = 150
"""Of the Tab key on a page."""


def test_from_an_upload_to_the_downloaded_file(chromium: Browser, service: Service) -> None:
    with visiting(chromium, service, viewport=WIDE) as page:
        upload(page, "datasets", "data.npz", labelled_images())
        shown = page.locator(".samples img")
        assert shown.count() == 12
        assert shown.first.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
        assert page.locator(".samples .wave").count() == 12
        assert page.get_by_role("row", name="1 15").is_visible()
        upload(page, "models", "small.onnx", small_model())
        page.get_by_role("link", name="Compress it").click()
        page.locator("select[name=dataset]").select_option(label="data.npz")
        page.locator("input[name=max_quality_drop]").fill("")
        page.get_by_role("button", name="Start the job").click()
        page.wait_for_url(re.compile(r"/jobs/job_\w+$"))
        page.locator(".badge", has_text="succeeded").wait_for(timeout=120_000)
        page.get_by_role("heading", name="Before and after").wait_for()
        with page.expect_download() as download:
            page.get_by_role("link", name=re.compile("onnx, ")).click()
        content = Path(download.value.path()).read_bytes()
        assert hashlib.sha256(content).hexdigest() in page.content()


def test_the_example_becomes_a_model_and_data_for_a_job(
    chromium: Browser, service: Service
) -> None:
    with visiting(chromium, service, viewport=WIDE) as page:
        page.goto("/")
        page.get_by_role("button", name="Try it with an example").click()
        page.wait_for_url(re.compile(r"/jobs/new\?"), timeout=90_000)
        chosen = page.locator("select[name=model]").evaluate("s => s.selectedOptions[0].label")
        assert chosen.startswith("Example: a reader of text")
        planned = page.locator("#plan", has_text="multiply–accumulates")
        planned.wait_for(timeout=90_000)  # by itself, when the model is inspected
        page.get_by_text("This will run.").wait_for()


def test_a_job_is_followed_past_the_end_before_its_retry(
    chromium: Browser, service: Service
) -> None:
    with visiting(chromium, service, viewport=WIDE) as page:
        upload(page, "models", "small.onnx", small_model())
        request = {
            "model": urlsplit(page.url).path.rpartition("/")[2],
            "steps": [{"method": "quantize", "mode": "dynamic"}],
            "requires": {"labels": ["nowhere"]},
        }
        job = service.http.post("/v1/jobs", json=request).json()["id"]
        for verb in ("cancel", "retry"):
            assert service.http.post(f"/v1/jobs/{job}/{verb}").status_code == 202
        page.goto(f"/jobs/{job}")
        page.evaluate("window.stayed = true")
        again = page.evaluate(EVENTS, f"/jobs/{job}/events")
        assert again == ["queued", "cancelled", "queued"]
        assert page.evaluate("window.stayed")
        page.get_by_role("button", name="Cancel").click()
        page.locator(".badge", has_text="cancelled").wait_for()
        assert page.get_by_role("button", name="Try again").is_visible()
        page.get_by_role("button", name="Delete").click()  # a browser answers "no" by itself
        assert service.http.get(f"/v1/jobs/{job}").status_code == 200
        page.once("dialog", lambda dialog: dialog.accept())
        page.get_by_role("button", name="Delete").click()
        page.wait_for_url(re.compile(r"/jobs$"))
        assert service.http.get(f"/v1/jobs/{job}").status_code == 404


def test_an_upload_that_is_cut_in_the_middle_goes_on(
    chromium: Browser, service: Service, tmp_path: Path
) -> None:
    """Twice: by itself when the connection broke, and after the page was left."""
    content = with_padding(small_model(), np.random.default_rng(0).bytes(1_000_000))
    file = tmp_path / "large.onnx"
    file.write_bytes(content)
    offsets: list[int] = []

    def note(request: Request) -> None:
        if request.method == "PATCH":
            offsets.append(int(request.headers["upload-offset"]))

    with (
        cutting(service.gateway.url) as way,
        visiting(
            chromium, service, ("Failed to load resource",), viewport=WIDE, base_url=way.url
        ) as page,
    ):
        page.on("request", note)
        with slow_network(page):
            choose(page, file)
            await_share(page, 0.1)
            way.now()
            eventually(lambda: page.evaluate("1") and len(offsets) == 2, what="going on")
            await_share(page, 0.5)
            page.reload()
        choose(page, file)
        page.wait_for_url(re.compile(r"/models/\w+$"))
        page.locator(".badge", has_text="ready").wait_for()
        shown = service.http.get("/v1" + urlsplit(page.url).path).json()
    assert shown["sha256"] == hashlib.sha256(content).hexdigest()
    assert shown["filename"] == "large.onnx"
    assert offsets[0] == 0 < offsets[1] < offsets[2]


@contextmanager
def slow_network(page: Page) -> Iterator[None]:
    """Let the page send about 1 MB a second."""
    devtools = page.context.new_cdp_session(page)
    rates = {"offline": False, "latency": 0, "downloadThroughput": -1}
    devtools.send("Network.emulateNetworkConditions", {**rates, "uploadThroughput": 1_000_000})
    yield
    devtools.send("Network.emulateNetworkConditions", {**rates, "uploadThroughput": -1})


def choose(page: Page, file: Path) -> None:
    """Choose a file on the page of the models, and send it."""
    page.goto("/models")
    page.locator("input[type=file]").set_input_files(file)
    page.get_by_role("button", name="Upload").click()


def await_share(page: Page, share: float) -> None:
    """Wait until the bar shows that so much was sent."""
    page.wait_for_function(
        "share => { const bar = document.querySelector('progress');"
        " return !bar.hidden && bar.value > share }",
        arg=share,
    )


def with_padding(model: bytes, padding: bytes) -> bytes:
    """Return a model with bytes in it that nobody reads."""
    loaded = onnx.load_model_from_string(model)
    loaded.metadata_props.add(key="padding", value=padding.hex())
    data: bytes = loaded.SerializeToString()
    return data


def test_a_refused_upload_says_why_beside_the_form(chromium: Browser, service: Service) -> None:
    with visiting(chromium, service, ("Unsupported Media Type",), viewport=WIDE) as page:
        page.goto("/")
        form = page.locator('form[action^="/models"]')
        file = {"name": "a.pdf", "mimeType": "application/pdf", "buffer": b"%PDF-1.4 " * 20}
        form.locator("input[type=file]").set_input_files(file)  # type: ignore[arg-type]
        with page.expect_response(lambda answer: answer.status == 415):
            form.get_by_role("button", name="Upload").click()
        said = form.get_by_role("status")
        eventually(lambda: "document" in (said.text_content() or ""), what="the reason")


def test_a_job_is_started_by_the_keyboard_alone(
    chromium: Browser, service: Service, model: str
) -> None:
    with visiting(chromium, service, viewport=WIDE) as page:
        page.goto(f"/jobs/new?model={model}&goal=smaller")
        page.keyboard.press("Tab")
        assert page.evaluate(FOCUSED) == "Skip to the content"
        page.keyboard.press("Enter")
        for _ in range(MOST_STOPS):
            page.keyboard.press("Tab")
            if page.evaluate(FOCUSED) == "Start the job":
                break
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
        page.keyboard.press("Enter")
        page.wait_for_url(re.compile("/jobs/job_"))
    service.finished(page.url.rpartition("/")[2])


def test_a_field_says_what_is_missing_while_the_form_is_filled_in(
    chromium: Browser, service: Service, model: str
) -> None:
    with visiting(chromium, service, viewport=WIDE) as page:
        page.goto("/jobs/new?goal=half")
        beside = page.locator('[data-wrong="#/dataset"]')
        page.locator("select[name=model]").select_option(model)
        beside.get_by_text("Choose data, or “made from the model”").wait_for()
        page.locator("select[name=dataset]").select_option("generated")
        page.get_by_text("This will run.").wait_for()
        assert beside.inner_text() == ""


def test_the_second_click_of_a_double_click_sends_nothing(
    chromium: Browser, service: Service, model: str
) -> None:
    with visiting(chromium, service, viewport=WIDE) as page:
        page.goto(f"/jobs/new?model={model}&goal=smaller")
        assert page.get_by_role("button", name="Start the job").evaluate(CLICKED_TWICE) == 1


def test_each_of_two_tenants_sees_its_own_things_alone(chromium: Browser, service: Service) -> None:
    tenants = ("acme", "umbrella")
    with service.asking_for_keys() as url:
        places: dict[str, str] = {}
        for tenant in tenants:
            key = service.planish("keys", "create", "browser", "--tenant", tenant).stdout.strip()
            with visiting(chromium, service, ("404 (Not Found)", "[DOM]"), base_url=url) as page:
                page.goto("/")
                page.get_by_label("API key").fill(key)
                page.get_by_role("button", name="Log in").click()
                upload(page, "models", f"{tenant}.onnx", small_model())
                places[tenant] = page.url
                page.goto("/models")
                shown = page.get_by_role("row").filter(has_text=".onnx").all_inner_texts()
                assert [row.split()[0] for row in shown] == [f"{tenant}.onnx"]
                for whose, place in places.items():
                    answer = page.goto(place)
                    assert answer is not None
                    assert answer.status == (200 if whose == tenant else 404)
