"""Format ``web``: the page of the artifact runs the graph in a real browser."""

import json
import shutil
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import sync_playwright

from app.domain.directory import RUNTIME, delivery_directory
from tests.e2e.browser import needed
from tests.workers import zoo
from tests.workers.engine.conftest import Run, report_of
from workers.tools import environments

TOOLS = environments.base(None)
INTEGERS = {"method": "quantize", "mode": "static", "force": True}


class Quiet(SimpleHTTPRequestHandler):
    """Serves a directory; requests are not printed."""

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def runtime_files(tmp_path: Path) -> None:
    """What a worker puts into the job's directory; ``make tools`` installs it."""
    if "web" not in environments.installed(TOOLS):
        pytest.skip("run: planish tools install web")
    target = delivery_directory(tmp_path / "job", "web") / RUNTIME
    target.mkdir(parents=True)
    for file in environments.files_of(TOOLS, "web"):
        shutil.copyfile(file, target / file.name)


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    return tmp_path / "site"


@pytest.fixture
def address(unpacked: Path) -> Iterator[str]:
    """Where the unpacked artifact is served."""
    unpacked.mkdir()
    handler = partial(Quiet, directory=str(unpacked))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/index.html"
        server.shutdown()
        thread.join()


@pytest.mark.usefixtures("runtime_files")
def test_the_page_answers_as_onnxruntime_does(
    job: Run,
    tmp_path: Path,
    unpacked: Path,
    address: str,
) -> None:
    program = needed()
    rows = tmp_path / "rows.npz"
    np.savez(rows, image=np.random.default_rng(0).random((64, 3, 16, 16), np.float32))
    result = job(zoo.path("residual"), INTEGERS, data=rows, deliver=["onnx", "web"], tools=["web"])
    report_of(result)
    artifact = result.artifacts[1]
    assert not artifact.ran
    assert "browser" in str(artifact.reason)
    with zipfile.ZipFile(tmp_path / "job" / "artifacts" / artifact.path) as archive:
        archive.extractall(unpacked)
    runs = json.loads((unpacked / "samples.json").read_text())["runs"]
    assert 1 <= len(runs) <= 8
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = chromium.new_page()
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(address)
        said = "Object.keys(document.documentElement.dataset).length"
        page.wait_for_function(said, timeout=60_000)
        assert page.inner_text("#state") == "The model runs.", faults
        error = page.evaluate("document.documentElement.dataset.maxError")
        assert page.inner_text("#runs") == str(len(runs))
        chromium.close()
    assert float(error) < 1e-3
