"""Commands that ask a service: what they print where, and how they end."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from planish import cli
from planish.cli.asking import tell
from planish.demo import text_lines
from tests.e2e.service import small_model
from tests.planish.answers import DATASET, ENDED, JOB, MODEL
from tests.planish.scripted import Answer, answer, events, problem, scripted

CONTENT = b"a small model"
MEASURES = {
    "size_bytes": 4000,
    "parameters": 1300,
    "nonzero_parameters": 1300,
    "macs": 500_000,
    "latency_ms": 1.5,
    "quality": None,
    "fidelity": None,
}
DONE = {
    **JOB,
    "name": "[bold]mine[/]",
    "baseline": MEASURES,
    "compressed": {**MEASURES, "size_bytes": 1000},
    "verdict": "4 times smaller",
    "artifacts": [
        {
            "id": "art_1",
            "format": "onnx",
            "size_bytes": len(CONTENT),
            "sha256": hashlib.sha256(CONTENT).hexdigest(),
            "href": "/v1/artifacts/art_1/content",
        }
    ],
}
JOB_THAT_ENDS = [
    answer(202, {**JOB, "status": "queued"}),
    events(ENDED),
    answer(200, DONE),
    answer(200, CONTENT),
    answer(200, {}),
]
"""The answers to a job that is submitted, awaited and downloaded, then to one for its report."""
NO_ITEMS = answer(200, {"items": [], "next_cursor": None})

Run = Callable[..., int]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run a command in this process; return its exit code."""
    for variable in ("PLANISH_URL", "PLANISH_KEY", "PLANISH_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def running(*arguments: str | Path) -> int:
        monkeypatch.setattr(sys, "argv", ["planish", *map(str, arguments)])
        try:
            cli.main()
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return running


def test_json_is_on_standard_output_and_messages_are_not(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, data, small = (tmp_path / name for name in ("m.onnx", "d.npz", "s.onnx"))
    model.write_bytes(b"x")
    data.write_bytes(b"PK")
    answers = [answer(201, {**MODEL, "status": "ready"}), answer(201, DATASET), *JOB_THAT_ENDS]
    with scripted(answers) as service:
        options = ["--data", data, "--max-drop", "0.01", "-o", small, "--url", service.url]
        assert run("compress", model, *options, "--json") == 0
    shown = capsys.readouterr()
    told = json.loads(shown.out)
    assert told["file"] == str(small)
    assert told["job"]["id"] == "job_1"
    assert "4 times smaller" in shown.err
    assert small.read_bytes() == CONTENT
    asked = json.loads(service.requests[2].body)
    assert asked["steps"] == [{"method": "quantize"}]
    assert asked["require"] == {"max_quality_drop": 0.01}


def test_a_search_is_asked_for_in_place_of_steps(run: Run, tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes(b"x")
    answers = [answer(201, {**MODEL, "status": "ready"}), *JOB_THAT_ENDS]
    with scripted(answers) as service:
        options = ["--minimize", "size", "--trials", "5", "--minutes", "2", "--url", service.url]
        assert run("compress", model, *options) == 0
        asked = json.loads(service.requests[1].body)
        assert run("compress", model, *options, "--step", "prune") == 1, "one or the other"
    budget = {"trials": 5, "minutes": 2}
    assert asked["objective"] == {"minimize": "size", "budget": budget}
    assert "steps" not in asked


def test_a_model_is_uploaded_by_its_address(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with scripted([answer(202, {**MODEL, "status": "ready"})]) as service:
        url, digest = "https://models.example.com/net.onnx", "0" * 64
        options = ["--sha256", digest, "--url", service.url]
        assert run("models", "upload", url, *options, "--json") == 0
        assert json.loads(service.requests[0].body) == {"url": url, "sha256": digest}
        assert json.loads(capsys.readouterr().out)["id"] == "mdl_1"
        assert run("models", "upload", tmp_path / "none", "--url", service.url) != 0
        assert "no file" in capsys.readouterr().err
        assert len(service.requests) == 1


def test_what_a_file_of_weights_does_not_tell_is_an_option(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"x")
    inputs = [{"name": "image", "dtype": "float32", "shape": ["batch", 3, 32, 32]}]
    with scripted([answer(202, {**MODEL, "status": "ready"})]) as service:
        options = ["--architecture", "timm/resnet18", "--url", service.url]
        assert run("models", "upload", weights, *options, "--inputs", json.dumps(inputs)) == 0
        query = parse_qs(urlsplit(service.requests[0].path).query)
        assert query["architecture"] == ["timm/resnet18"]
        assert json.loads(query["inputs"][0]) == inputs
        capsys.readouterr()
        assert run("models", "upload", weights, *options, "--inputs", "image") != 0
        assert "not JSON" in capsys.readouterr().err


def test_what_is_told_keeps_its_brackets_and_colons(capsys: pytest.CaptureFixture[str]) -> None:
    words = "Not timed: [/conv/1] is no layer of net:b:2.onnx. Install planish[worker]."
    tell(words)
    assert capsys.readouterr().err == f"{words}\n"


def test_in_lists_brackets_are_brackets(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    page = answer(200, {"items": [DONE, DONE, DONE], "next_cursor": "more"})
    with scripted([page, page]) as service:
        assert run("jobs", "list", "--limit", "2", "--url", service.url) == 0
        table = capsys.readouterr().out
        assert run("jobs", "list", "--limit", "2", "--url", service.url, "--json") == 0
    assert table.count("[bold]mine[/]") == 2
    assert [job["id"] for job in json.loads(capsys.readouterr().out)] == ["job_1"] * 2


FIGURE = "3.66× smaller, 1.98× faster (1.93 to 2.03)"


@pytest.mark.parametrize(
    ("command", "item", "whole"),
    [
        (
            ["jobs", "list"],
            {**DONE, "name": "nightly", "verdict": f"{FIGURE}. Step 1 left 20 layers alone."},
            ["succeeded", "2026-01-01 00:00", f"nightly: {FIGURE}"],
        ),
        (
            ["models", "list"],
            {**MODEL, "filename": "PP-OCRv6_rec_small.onnx", "parameters": 5_261_000},
            ["inspecting", "PP-OCRv6_rec_small.onnx, 5,261,000 parameters"],
        ),
        (
            ["datasets", "list"],
            {**DATASET, "name": "a night's lines of text", "samples": 4096},
            ["ready", "a night's lines of text, 4,096 samples"],
        ),
        (
            ["webhooks", "list"],
            {
                "id": "whk_1",
                "url": "https://platform.example.com/hooks/planish",
                "events": ["job.failed", "job.cancelled"],
                "description": None,
                "enabled": False,
                "disabled_reason": "It answered 410",
                "created_at": "2026-01-01T00:00:00Z",
            },
            ["disabled", "https://platform.example.com/hooks/planish,"],
        ),
    ],
)
def test_a_list_is_read_in_a_window_of_eighty_columns(
    run: Run,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: list[str],
    item: dict[str, Any],
    whole: list[str],
) -> None:
    """An id, which is typed into other commands, is whole, and so is each word."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    identifier = f"{item['id'][:4]}{'a' * 24}"
    page = answer(200, {"items": [{**item, "id": identifier}], "next_cursor": None})
    with scripted([page]) as service:
        assert run(*command, "--url", service.url) == 0
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    for words in (identifier, *whole):
        assert words in printed


@pytest.mark.parametrize(
    ("answers", "arguments", "code", "says"),
    [
        ([problem(401, "unauthenticated", "Send a key.")], ["jobs", "list"], 4, "Send a key."),
        ([problem(404, "not-found", "No job [x].")], ["jobs", "get", "job_1"], 1, "No job [x]."),
        (
            [events(), events(), answer(200, {**JOB, "status": "cancelled"})],
            ["jobs", "wait", "job_1"],
            2,
            "cancelled",
        ),
        (
            [events(), events(), answer(200, {**JOB, "status": "failed"})],
            ["jobs", "wait", "job_1"],
            1,
            "failed",
        ),
        ([], ["jobs", "list", "--limit", "none"], 1, "'--limit': must be a whole number"),
        ([], ["jobs", "list", "--limit", "0"], 1, "'--limit': must be 1 or more"),
        ([], ["advise", "m", "--minimize", "pace"], 1, "'--minimize': 'pace' is not one of"),
        ([], ["jobs", "download", "job_1", "-o", "no/x.onnx"], 1, "There is no directory 'no'"),
    ],
)
def test_the_exit_code_says_why(
    run: Run,
    capsys: pytest.CaptureFixture[str],
    answers: list[Answer],
    arguments: list[str],
    code: int,
    says: str,
) -> None:
    with scripted(answers) as service:
        assert run(*arguments, "--url", service.url) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert says in shown.err


NO_KEY = problem(401, "unauthenticated", "Send an API key.")


def test_a_login_is_kept_once_the_service_has_accepted_it(run: Run) -> None:
    with scripted([NO_KEY, NO_ITEMS, NO_ITEMS]) as service:
        assert run("login", service.url, "--key", "plk_a") == 0
        assert run("jobs", "list") == 0
    keys = [request.headers.get("authorization") for request in service.requests]
    assert keys == [None, "Bearer plk_a", "Bearer plk_a"]


def test_a_login_that_is_refused_is_not_kept(run: Run, tmp_path: Path) -> None:
    with scripted([NO_KEY, problem(401, "unauthenticated")]) as service:
        assert run("login", service.url, "--key", "plk_a") == 4
    assert not (tmp_path / "config").exists()


@pytest.mark.parametrize(("key", "unread"), [(["--key", "plk_a"], True), ([], False)])
def test_a_login_at_a_service_that_needs_no_key_says_that_none_was_looked_at(
    run: Run, capsys: pytest.CaptureFixture[str], key: list[str], *, unread: bool
) -> None:
    with scripted([NO_ITEMS, NO_ITEMS]) as service:
        assert run("login", service.url, *key) == 0
        told = capsys.readouterr().err
        assert run("jobs", "list") == 0
    assert "needs no API key" in told
    assert ("did not look at yours" in told) is unread
    assert [request.headers.get("authorization") for request in service.requests] == [None, None]


def test_an_address_without_its_scheme_is_said_to_be_none(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("login", "localhost:8080") == 1
    assert "begin with http:// or https://" in capsys.readouterr().err


def test_advice_on_files_uploads_them(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, data = tmp_path / "m.onnx", tmp_path / "d.npz"
    model.write_bytes(b"x")
    data.write_bytes(b"x")
    answers = [answer(201, {**MODEL, "status": "ready"}), answer(201, DATASET), NO_ITEMS]
    with scripted(answers) as service:
        assert run("advise", model, "--data", data, "--url", service.url) == 0
    asked = urlsplit(service.requests[2].path)
    assert asked.path == "/v1/models/mdl_1/recommendations"
    assert parse_qs(asked.query)["data"] == ["dst_1"]
    assert "m.onnx is uploaded as mdl_1." in capsys.readouterr().err


def test_advice_on_ids_uploads_nothing(run: Run) -> None:
    with scripted([NO_ITEMS]) as service:
        assert run("advise", "mdl_1", "--data", "generated", "--url", service.url) == 0
    assert [request.method for request in service.requests] == ["GET"]


def test_advice_on_what_is_neither_says_what_may_stand_there(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    with scripted([]) as service:
        assert run("advise", "none.onnx", "--url", service.url) == 1
    assert "There is no file 'none.onnx', and an id begins with mdl_" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--data", "data.csv"], "Upload an .npz"),
        (["-o", "small.tflite"], "Name it small.onnx"),
    ],
)
def test_what_files_tell_is_said_before_they_are_uploaded(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("m.onnx").write_bytes(b"x")
    Path("data.csv").write_bytes(b"a,b\n1,2\n")
    with scripted([]) as service:
        assert run("compress", "m.onnx", "--url", service.url, *options) == 1
        assert service.requests == []
    assert says in " ".join(capsys.readouterr().err.replace("│", " ").split())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--step", "{prune}"], "is no JSON"),
        (["--step", "prun"], "step 1, method: must be one of 'cluster'"),
        (["--step", '{"method": "prune", "ratio": "half"}'], "step 1, ratio: must be a number"),
        (["--max-drop", "one percent"], "write 0.01, or 1 %"),
        (["--max-drop", "-1%"], "is below 0"),
        (["--max-drop", "5"], "write 5% for 5 in a hundred"),
        (["--seed", "9" * 20], "--seed: must be"),
        (["--target", "fridge"], "Name one of cpu-x86-vnni"),
        (["-o", "small.tflite"], "Name it small.onnx"),
        (["--target", "openvino-cpu", "-o", "small.pte"], "Name it small.zip or small.onnx"),
        (["-o", "nowhere/small.onnx"], "There is no directory 'nowhere'"),
        (["--report", "."], "name a file in it"),
    ],
)
def test_what_is_wrong_is_said_before_a_service_is_started(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], says: str
) -> None:
    (tmp_path / "m.onnx").write_bytes(b"x")
    assert run("compress", tmp_path / "m.onnx", *options) == 1
    told = capsys.readouterr().err
    assert says in " ".join(told.replace("│", " ").split())
    assert "Starting" not in told
    assert "Value error" not in told


def test_one_item_is_read_by_people_and_programs(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    long = {"layers": [{"node": f"conv{number}"} for number in range(100)]}
    job = answer(200, {**DONE, "step_reports": [long], "verdict": "It is small. " * 9 + "Yes."})
    with scripted([job, job, job]) as service:
        assert run("jobs", "get", "job_1", "--url", service.url) == 0
        lines = capsys.readouterr().out.splitlines()
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.setattr("sys.stdout.isatty", lambda: True)
        assert run("jobs", "get", "job_1", "--url", service.url) == 0
        window = capsys.readouterr().out.splitlines()
        assert run("jobs", "get", "job_1", "--url", service.url, "--json") == 0
        whole = json.loads(capsys.readouterr().out)
    assert lines[0].split() == ["id", "job_1"]
    assert all(line == line.rstrip() and "null" not in line for line in lines)
    assert max(map(len, lines)) < 700
    assert max(map(len, window)) <= 80
    assert len(whole["step_reports"][0]["layers"]) == 100


def test_a_service_that_is_not_there_is_said_with_what_to_do(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    with scripted([]) as service:
        gone = service.url
    assert run("jobs", "list", "--url", gone) == 1
    assert "'planish serve' starts a service" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("mod", {"models"}), ("jobs ca", {"cancel"}), ("compress --max-dr", {"--max-drop"})],
)
def test_a_shell_completes_what_was_begun(typed: str, offered: set[str]) -> None:
    """As bash asks: https://click.palletsprojects.com/en/stable/shell-completion/."""
    words = ["planish", *typed.split()]
    asks = {
        "_PLANISH_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }
    program = Path(sys.executable).with_name("planish")
    done = subprocess.run(
        [program], env={**os.environ, **asks}, capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) == offered


def test_without_data_nothing_is_asked_for_that_needs_data(run: Run, tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes(b"x")
    answers = [answer(201, {**MODEL, "status": "ready"}), *JOB_THAT_ENDS]
    with scripted(answers) as service:
        assert run("compress", model, "--url", service.url) == 0
    asked = json.loads(service.requests[1].body)
    assert asked["steps"] == [{"method": "quantize"}]
    assert (tmp_path / "m.small.onnx").read_bytes() == CONTENT


def test_a_file_for_another_runtime_is_called_what_it_is(run: Run, tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes(b"x")
    [artifact] = DONE["artifacts"]
    done = {**DONE, "artifacts": [{**artifact, "format": "litert"}]}
    answers = [answer(200, done) if each is JOB_THAT_ENDS[2] else each for each in JOB_THAT_ENDS]
    with scripted([answer(201, {**MODEL, "status": "ready"}), *answers]) as service:
        assert run("compress", model, "--target", "mobile-litert", "--url", service.url) == 0
    assert json.loads(service.requests[1].body)["target"] == "mobile-litert"
    assert (tmp_path / "m.small.tflite").read_bytes() == CONTENT


def test_two_files_are_compared_by_turns(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = text_lines.model_path().with_name("ch_ppocr_mobile_v2.0_cls_mobile.onnx")
    rng = np.random.default_rng(0)
    images = rng.standard_normal((8, 3, 48, 192)).astype(np.float32)
    np.savez(tmp_path / "data.npz", allow_pickle=False, x=images)
    assert run("compare", model, model, "--data", tmp_path / "data.npz", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["first"]["size_bytes"] == found["second"]["size_bytes"] == model.stat().st_size
    assert found["second"]["fidelity"]["agreement"] == 1.0
    assert found["first"]["latency_ms"] > 0
    assert run("compare", model, model, "--data", tmp_path / "data.npz") == 0
    sizes = ", ".join(f"{n} = {s}" for n, s in found["evaluation"]["sample_sizes"].items())
    assert f"MACs, one sample of {sizes}" in capsys.readouterr().out
    assert run("compare", model, text_lines.model_path()) == 1
    assert "cannot be compared" in capsys.readouterr().err
    (tmp_path / "none.onnx").write_bytes(b"no model")
    assert run("compare", model, tmp_path / "none.onnx") == 1
    assert "Traceback" not in capsys.readouterr().err


def test_a_file_that_is_worse_than_it_may_be_ends_with_a_code_of_its_own(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (tmp_path / f"{seed}.onnx" for seed in (0, 5))
    for seed, file in ((0, first), (5, second)):
        file.write_bytes(small_model(seed))
    assert run("compare", first, first, "--max-drop", "0", "--max-slowdown", "9") == 0
    assert run("compare", first, second, "--max-drop", "500%") == 0
    capsys.readouterr()
    assert run("compare", first, second, "--max-drop", "0.001", "--json") == 3
    shown = capsys.readouterr()
    assert "Quality drops by" in shown.err
    assert "Nothing was changed" not in shown.err
    assert json.loads(shown.out)["second"]["fidelity"]["explained"] < 0.999


def test_advice_is_a_list_and_its_json_holds_requests(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    estimate = {"size_bytes": 1000, "macs": 5, "latency_ms": None, "minutes": 0.1}
    item = {
        "id": "quantize",
        "title": "Quantize each layer",
        "reason": "92 % of it",
        "job": {"model": "mdl_1", "steps": [{"method": "quantize"}]},
        "estimate": estimate,
        "risk": "low",
        "caution": "Its quality is measured.",
    }
    wish = ("--url", "", "--minimize", "size", "--max-drop", "0.01", "--data", "dst_1")
    for options in ((), ("--json",)):
        with scripted([answer(200, {"items": [item]})]) as service:
            assert run("advise", "mdl_1", wish[0], service.url, *wish[2:], *options) == 0
        [request] = service.requests
        assert request.path.startswith("/v1/models/mdl_1/recommendations?")
        assert "minimize=size&max_quality_drop=0.01&data=dst_1" in request.path
        printed = capsys.readouterr().out
        assert "Quantize each" in printed
    assert json.loads(printed)[0]["job"] == item["job"]
