"""Commands that ask a service: what they print where, and how they end."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from planish.cli.asking import tell
from tests.planish.answers import DATASET, DONE, JOB, MODEL
from tests.planish.conftest import Run
from tests.planish.scripted import Answer, answer, events, problem, scripted

NO_ITEMS = answer(200, {"items": [], "next_cursor": None})


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


def test_a_service_is_named_before_a_command_or_with_it(run: Run) -> None:
    with scripted([NO_ITEMS, NO_ITEMS, NO_ITEMS, NO_ITEMS]) as service:
        assert run("--url", service.url, "models", "list") == 0
        assert run("--url", "http://127.0.0.1:1", "jobs", "list", "--url", service.url) == 0
        assert run("--url", service.url, "login") == 0
        assert run("usage") == 0, "the login's"
    paths = [urlsplit(request.path).path for request in service.requests]
    assert paths == ["/v1/models", "/v1/jobs", "/v1/models", "/v1/usage"]


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
    told = capsys.readouterr().err.splitlines()
    assert "'planish serve' starts a service" in told.pop()
    assert "trying again" in told.pop()
    assert not told


_INTERRUPTED_AT = """
import signal, sys
from importlib.abc import MetaPathFinder

module, *command = sys.argv[1:]

class Interrupt(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == module:
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
from planish.cli import main
sys.argv = ["planish", *command]
main()
"""
"""The command, to which Ctrl-C happens as it begins to import a module."""


@pytest.mark.parametrize(
    ("module", "command"),
    [
        ("planish.cli.commands", ["--version"]),
        ("httpx", ["jobs", "list"]),
        ("app.domain.jobs", ["compress", __file__]),
        ("numpy", ["compare", __file__, __file__]),
        ("numpy", ["demo"]),
    ],
)
def test_a_command_that_is_stopped_among_its_imports_ends_in_one_line(
    tmp_path: Path, module: str, command: list[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED_AT, module, *command],
        cwd=tmp_path,
        env={**os.environ, "PLANISH_URL": "", "XDG_CONFIG_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "planish: stopped.\n")


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
        assert options or printed.split()[:3] == ["what", "risk", "bytes"], "nothing was timed"
        assert options or "ms" not in printed.splitlines()[0]
    assert json.loads(printed)[0]["job"] == item["job"]
