"""What the documentation says is so: examples run, tables are the code's, links lead somewhere."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import onnxruntime as ort
import pytest
import yaml

from app.domain.steps import METHODS
from planish import Client, embedded
from planish.demo import text_lines
from planish.types import Dataset
from tests import docs_tables

ROOT = docs_tables.DOCS.parent
PAGES = sorted([*ROOT.glob("*.md"), *docs_tables.DOCS.rglob("*.md")])
EXAMPLE_URL = "http://127.0.0.1:8080"

_LINK = re.compile(r"\]\(([^)#\s]+)")
_CODE = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def examples(page: Path, language: str) -> list[str]:
    return [code for kind, code in _CODE.findall(page.read_text()) if kind == language]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A whole service."""
    with embedded.running() as address:
        yield address


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with what the examples speak of: a small trained model, and data for it."""
    shutil.copy(text_lines.model_path().with_name(SMALL_MODEL), tmp_path / "model.onnx")
    rng = np.random.default_rng(0)
    images = rng.standard_normal((32, 3, 48, 192)).astype(np.float32)
    np.savez(tmp_path / "data.npz", allow_pickle=False, x=images)
    return tmp_path


SMALL_MODEL = "ch_ppocr_mobile_v2.0_cls_mobile.onnx"


def run(argv: list[str], place: Path) -> str:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        argv,
        cwd=place,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_shell_example_of_the_api_runs(url: str, place: Path) -> None:
    (example,) = [text for text in examples(ROOT / "docs/api.md", "sh") if EXAMPLE_URL in text]
    told = run(["bash", "-euc", example.replace(EXAMPLE_URL, url)], place)
    assert '"succeeded"' in told
    assert (place / "smaller.onnx").stat().st_size < (place / "model.onnx").stat().st_size
    assert "<html" in (place / "report.html").read_text()


def test_the_command_of_the_guide_leaves_a_smaller_model(url: str, place: Path) -> None:
    (example,) = examples(ROOT / "docs/cli.md", "sh")
    run(["env", f"PLANISH_URL={url}", "bash", "-euc", example], place)
    assert (place / "smaller.onnx").stat().st_size < (place / "model.onnx").stat().st_size
    assert "<html" in (place / "report.html").read_text()


@pytest.mark.parametrize("page", ["README.md", "docs/api.md"])
def test_the_python_example_runs(page: str, url: str, place: Path) -> None:
    (example,) = [text for text in examples(ROOT / page, "python") if EXAMPLE_URL in text]
    told = run([sys.executable, "-c", example.replace(EXAMPLE_URL, url)], place)
    assert "smaller" in told
    assert (place / "smaller.onnx").stat().st_size < (place / "model.onnx").stat().st_size


def test_the_notebook_runs_from_its_first_cell_to_its_last(url: str, place: Path) -> None:
    cells = json.loads((ROOT / "docs/notebook.ipynb").read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    told = run(["env", f"PLANISH_URL={url}", sys.executable, "-c", "\n".join(code)], place)
    assert "same answers" in told
    assert (place / "smaller.onnx").stat().st_size < (place / "model.onnx").stat().st_size


def test_the_workflow_compares_the_models_of_a_pull_request(place: Path) -> None:
    """It is what GitHub reads, and its own command runs."""
    (example,) = examples(ROOT / "docs/integrations.md", "yaml")
    workflow = yaml.safe_load(example)
    (trigger,) = workflow[True].values()  # YAML 1.1 reads "on" as a truth, and GitHub does not
    assert trigger == {"paths": ["models/**"]}
    (job,) = workflow["jobs"].values()
    assert all(("uses" in step) != ("run" in step) for step in job["steps"])
    (command,) = [step["run"] for step in job["steps"] if "compare" in step.get("run", "")]
    for models in (place / "models", place / "base/models"):
        models.mkdir(parents=True)
        shutil.copy(place / "model.onnx", models / "net.onnx")
    shutil.copy(place / "data.npz", place / "models/calib.npz")
    # The same file twice: neither the runner's load nor chance may make it slower here.
    run(["bash", "-euc", command.replace("--max-slowdown 0.1", "--max-slowdown 100")], place)
    report = json.loads((place / "report.json").read_text())
    assert report["first"]["size_bytes"] == report["second"]["size_bytes"]


def test_the_metric_that_the_guide_writes_counts_right_answers(tmp_path: Path) -> None:
    (example,) = [text for text in examples(ROOT / "docs/api.md", "python") if ".onnx.exp" in text]
    run([sys.executable, "-c", example], tmp_path)
    session = ort.InferenceSession(tmp_path / "right.onnx", providers=["CPUExecutionProvider"])
    feeds = {"scores": np.eye(3, 10, dtype=np.float32), "targets": np.array([0, 1, 5])}
    (right,) = session.run(None, feeds)
    assert right.tolist() == [1, 1, 0]


def test_every_request_of_the_guide_to_methods_is_accepted(url: str, place: Path) -> None:
    """Each has a plan that refuses nothing, for a model and labelled data of the right shape."""
    with Client(url) as planish:
        model, data = planish.upload_model(place / "model.onnx"), _labelled(planish, place)
        bodies = examples(ROOT / "docs/methods.md", "json")
        requests = [json.loads(body) for body in bodies]
        named_methods = {step["method"] for request in requests for step in request["steps"]}
        assert named_methods == {step.model_fields["method"].default for step in METHODS}
        for request in requests:
            ids = {"model": model.id} | ({"dataset": data.id} if "dataset" in request else {})
            plan = httpx.post(f"{url}/v1/jobs/plan", json=request | ids, trust_env=False).json()
            assert plan["ok"], (request, plan)


def _labelled(planish: Client, place: Path) -> Dataset:
    arrays = dict(np.load(place / "data.npz"))
    np.savez(place / "labelled.npz", allow_pickle=False, **arrays, targets=np.arange(32) % 2)
    return planish.upload_dataset(place / "labelled.npz")


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_table_is_the_code_s(page: Path) -> None:
    text = page.read_text()
    assert text == docs_tables.rendered(text), "run: python -m tests.docs_tables"


def test_every_setting_problem_event_route_and_parameter_is_documented() -> None:
    documentation = "".join(page.read_text() for page in PAGES)
    absent = [name for name in docs_tables.TABLES if f"<!-- table: {name} -->" not in documentation]
    assert absent == []


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    shutil.copytree(docs_tables.DOCS, tmp_path / "docs")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    run([sys.executable, "-m", "zensical", "build", "--strict"], tmp_path)
    assert "Ten minutes, in a browser" in (tmp_path / "site/tutorial.html").read_text()


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_leads_to_a_file(page: Path) -> None:
    targets = [link for link in _LINK.findall(page.read_text()) if "://" not in link]
    assert [link for link in targets if not (page.parent / link).exists()] == []


def test_every_file_that_is_named_is_there() -> None:
    """Paths in backticks, such as ``app/store/transitions.py``, lead somewhere."""
    path = re.compile(r"`((?:app|workers|planish|tests|migrations|docs)/[\w./]*)`")
    named_paths = {
        (named(page), found) for page in PAGES for found in path.findall(page.read_text())
    }
    assert {found for found in named_paths if not (ROOT / found[1]).exists()} == set()


def test_every_command_of_the_command_line_is_documented() -> None:
    from planish.cli.commands import cli

    documentation = "".join(page.read_text() for page in PAGES)
    commands = [
        command.name or command.callback.__name__
        for command in cli.registered_commands
        if command.callback
    ]
    assert [name for name in commands if f"planish {name}" not in documentation] == []
