"""The dashboard in a real browser: what a person does, and that everybody can read it."""

import hashlib
import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import onnx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Request, sync_playwright

from tests.cutting import cutting
from tests.e2e.browser import needed
from tests.e2e.service import Service, small_model
from tests.waiting import eventually

SERIOUS = {"serious", "critical"}
PICTURES = os.environ.get("PLANISH_PICTURES")
"""A directory where a picture of every page is kept."""

SHIFTED = """() => new Promise(resolve => {
    let moved = 0;
    const watch = list => list.getEntries().forEach(shift => { moved += shift.value; });
    new PerformanceObserver(watch).observe({type: "layout-shift", buffered: true});
    requestAnimationFrame(() => setTimeout(() => resolve(moved)));
})"""
MOST_SHIFTED = 0.1
"""The cumulative layout shift that web.dev/articles/cls calls good."""

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

FOCUSED = "document.activeElement.textContent.trim()"
MOST_STOPS = 150
"""Of the Tab key on a page."""

WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 360, "height": 760}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    program = needed()
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-gpu"]
        )


@contextmanager
def visiting(
    chromium: Browser, service: Service, expected: tuple[str, ...] = (), **options: Any
) -> Iterator[Page]:
    """Hand out a page; it told the browser's console of no fault but the expected ones."""
    context = chromium.new_context(**{"base_url": service.gateway.url, **options})
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    yield page
    context.close()
    assert [line for line in said if not any(words in line for words in expected)] == []


def labelled_images() -> bytes:
    """Data for the small model beside pictures and a signal, of two classes."""
    rng = np.random.default_rng(0)
    packed = io.BytesIO()
    np.savez(
        packed,
        x=rng.normal(size=(30, 2)).astype(np.float32),
        images=rng.integers(0, 255, (30, 24, 32, 3), dtype=np.uint8),
        sound=np.sin(np.linspace(0, 60, 400, dtype=np.float32))[None].repeat(30, 0),
        targets=np.arange(30) // 15,
    )
    return packed.getvalue()


def upload(page: Page, kind: str, name: str, content: bytes) -> None:
    """Upload a file on the start page, and wait until it is looked at."""
    page.goto("/")
    form = page.locator(f'form[action^="/{kind}"]')
    file = {"name": name, "mimeType": "application/octet-stream", "buffer": content}
    form.locator("input[type=file]").set_input_files(file)  # type: ignore[arg-type]
    form.get_by_role("button", name="Upload").click()
    page.wait_for_url(re.compile(rf"/{kind}/\w+$"))
    page.locator(".badge", has_text="ready").wait_for()


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
        assert page.locator("select[name=model]").evaluate("s => s.selectedOptions[0].label") == (
            "Example: a reader of text"
        )
        page.get_by_text("This will work.").wait_for()


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


def test_the_second_click_of_a_double_click_sends_nothing(
    chromium: Browser, service: Service, model: str
) -> None:
    with visiting(chromium, service, viewport=WIDE) as page:
        page.goto(f"/jobs/new?model={model}&goal=smaller")
        assert page.get_by_role("button", name="Start the job").evaluate(CLICKED_TWICE) == 1


def test_every_page_can_be_read_by_everybody(
    chromium: Browser, service: Service, model: str
) -> None:
    job = service.submit(
        model, name="a job", steps=[{"method": "quantize", "mode": "dynamic", "force": True}]
    )
    service.finished(job)
    made = service.http.post("/v1/datasets?filename=data.npz", content=labelled_images()).json()
    address = f"/v1/datasets/{made['id']}"
    eventually(lambda: service.http.get(address).json()["status"] == "ready")
    chart = service.http.post(f"/v1/models/{model}/sensitivity", json={"dataset": made["id"]})
    assert service.finished(chart.json()["id"])["status"] == "succeeded"
    pages = {
        "start": "/",
        "models": "/models",
        "model": f"/models/{model}",
        "datasets": "/datasets",
        "dataset": f"/datasets/{made['id']}",
        "jobs": "/jobs",
        "sensitivity": f"/models/{model}/sensitivity",
        "graph": f"/models/{model}/graph",
        "advice": f"/jobs/new?model={model}",
        "new-job": f"/jobs/new?model={model}&dataset={made['id']}&goal=both",
        "job": f"/jobs/{job}",
        "report": f"/jobs/{job}/report",
        "compare": f"/jobs/compare?job={job}",
        "devices": "/devices",
        "search": f"/searches/new?model={model}",
        "webhooks": "/webhooks",
        "keys": "/keys",
        "usage": "/usage",
        "api": "/docs",
        "not-found": "/jobs/job_0",
    }
    for scheme, size in (("light", WIDE), ("dark", WIDE), ("light", NARROW)):
        with visiting(
            chromium, service, ("404 (Not Found)",), viewport=size, color_scheme=scheme
        ) as page:
            for name, path in pages.items():
                page.goto(path)
                findings = Axe().run(page).response["violations"]
                serious = [each["help"] for each in findings if each["impact"] in SERIOUS]
                assert serious == [], (name, scheme, size)
                assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
                assert page.evaluate(SHIFTED) < MOST_SHIFTED, (name, scheme, size)
                if PICTURES is not None:
                    kind = "narrow" if size is NARROW else scheme
                    page.screenshot(path=Path(PICTURES) / f"{name}-{kind}.png", full_page=True)
