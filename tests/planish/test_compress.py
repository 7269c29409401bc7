"""``planish compress``: what it asks for, what it leaves, and what it says before it begins."""

import json
import os
import signal
import subprocess
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from planish.cli.commands import CANCELLED
from tests.planish.answers import (
    CONTENT,
    DATASET,
    DONE,
    ENDED,
    JOB,
    MODEL,
    NO_MODEL,
    REPORT,
    UPLOAD,
)
from tests.planish.conftest import Run
from tests.planish.scripted import Answer, answer, events, problem, scripted

BEGUN = [answer(422, NO_MODEL), answer(201, {**MODEL, "status": "ready"})]
"""The answers to a request that is right but for its model, and to that model."""
JOB_THAT_ENDS = [
    answer(202, {**JOB, "status": "queued"}),
    events(ENDED),
    answer(200, DONE),
    answer(200, CONTENT),
    answer(200, REPORT),
]
"""The answers to a job that is submitted, awaited and downloaded, then to one for its report."""


def test_json_is_on_standard_output_and_messages_are_not(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, data, small = (tmp_path / name for name in ("m.onnx", "d.npz", "s.onnx"))
    model.write_bytes(b"x")
    data.write_bytes(b"PK")
    answers = [*BEGUN, answer(201, DATASET), *JOB_THAT_ENDS]
    with scripted(answers) as service:
        options = ["--data", data, "--max-drop", "0.01", "-o", small, "--url", service.url]
        assert run("compress", model, *options, "--json") == 0
    shown = capsys.readouterr()
    told = json.loads(shown.out)
    assert told["file"] == str(small)
    assert told["job"]["id"] == "job_1"
    assert "4 times smaller" in shown.err
    assert small.read_bytes() == CONTENT
    asked = json.loads(service.requests[3].body)
    assert asked["steps"] == [{"method": "quantize"}]
    assert asked["require"] == {"max_quality_drop": 0.01}


def test_times_are_told_as_they_compare_and_not_by_two_medians(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes(b"x")
    with scripted([*BEGUN, *JOB_THAT_ENDS]) as service:
        assert run("compress", model, "--url", service.url) == 0
    [told] = [line for line in capsys.readouterr().out.splitlines() if "ms, " in line]
    cells = [cell.strip() for cell in told.strip("│").split("│")]
    name = "ms, one sample of width = 40, 2 threads (the machine was busy)"
    assert cells == [name, "7", "4 to 5"]


def test_a_search_is_asked_for_in_place_of_steps(run: Run, tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes(b"x")
    answers = [*BEGUN, *JOB_THAT_ENDS]
    with scripted(answers) as service:
        options = ["--minimize", "size", "--trials", "5", "--minutes", "2", "--url", service.url]
        assert run("compress", model, *options) == 0
        asked = json.loads(service.requests[2].body)
        assert run("compress", model, *options, "--step", "prune") == 1, "one or the other"
    budget = {"trials": 5, "minutes": 2}
    assert asked["objective"] == {"minimize": "size", "budget": budget}
    assert "steps" not in asked


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


def test_a_service_says_what_is_wrong_before_it_is_sent_a_model(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m.onnx").write_bytes(b"x")
    target = {"pointer": "#/target", "detail": "There is no target 'fridge'."}
    step = {"pointer": "#/steps/0/method", "detail": "must be one of 'prune'"}
    wishes = (
        ("--target", "fridge", {"errors": [*NO_MODEL["errors"], target]}, "no target 'fridge'"),
        ("--step", "prun", {"detail": "Faults.", "errors": [step]}, "step 1, method: must be one"),
    )
    for option, value, said, words in wishes:
        with scripted([answer(422, {**NO_MODEL, **said})]) as service:
            options = (option, value, "--url", service.url)
            assert run("compress", tmp_path / "m.onnx", *options) == 1
            assert [request.path for request in service.requests] == ["/v1/jobs/plan"]
        told = capsys.readouterr().err
        assert words in told
        assert "no model" not in told


def interrupted(handler: BaseHTTPRequestHandler) -> None:
    """Answer once the person who waits has typed Ctrl-C."""
    os.kill(os.getpid(), signal.SIGINT)
    answer(200, MODEL)(handler)


@pytest.mark.parametrize(
    ("answers", "code", "deleted"),
    [
        ([answer(201, {**MODEL, "problem": NO_MODEL, "status": "rejected"})], 1, {"models"}),
        ([answer(201, MODEL), interrupted], 130, {"models"}),
        ([BEGUN[1], problem(422, "invalid-dataset")], 1, {"models"}),
        ([BEGUN[1], answer(201, DATASET), answer(422, NO_MODEL)], 1, {"models", "datasets"}),
    ],
)
def test_what_was_uploaded_for_a_job_that_never_was_is_deleted(
    run: Run,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    answers: list[Answer],
    code: int,
    deleted: set[str],
) -> None:
    model, data = tmp_path / "m.onnx", tmp_path / "d.npz"
    model.write_bytes(b"x")
    data.write_bytes(b"PK")
    gone = [answer(204, b"")] * len(deleted)
    with scripted([BEGUN[0], *answers, *gone]) as service:
        assert run("compress", model, "--data", data, "--url", service.url) == code
        last = [(each.method, each.path) for each in service.requests[-len(deleted) :]]
    assert {method for method, _ in last} == {"DELETE"}
    assert {path.split("/")[2] for _, path in last} == deleted
    assert "mdl_1" not in capsys.readouterr().err, "nobody finds what is deleted"


def test_bytes_that_are_interrupted_on_their_way_leave_no_upload(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("planish._sync.uploads.LARGE_BYTES", 1)
    model = tmp_path / "m.onnx"
    model.write_bytes(b"x" * 1000)
    begun = answer(201, UPLOAD, Location="/v1/uploads/upl_1")
    with scripted([BEGUN[0], begun, interrupted, answer(204, b"")]) as service:
        assert run("compress", model, "--url", service.url) == 130
        asked = [(each.method, each.path) for each in service.requests[-2:]]
    assert asked == [("PATCH", "/v1/uploads/upl_1"), ("DELETE", "/v1/uploads/upl_1")]


def test_what_is_terminated_cancels_its_job_at_a_service_and_has_said_which_it_is(
    tmp_path: Path,
) -> None:
    (tmp_path / "m.onnx").write_bytes(b"x")
    began: list[subprocess.Popen[str]] = []

    def terminated(handler: BaseHTTPRequestHandler) -> None:
        began[0].terminate()
        events()(handler)

    cancelled = {**JOB, "status": "cancelled"}
    ends = [answer(202, cancelled), events(), events(), answer(200, cancelled)]
    queued = answer(202, {**JOB, "status": "queued"})
    with scripted([*BEGUN, queued, terminated, *ends]) as service:
        with subprocess.Popen(
            [sys.executable, "-m", "planish", "compress", "m.onnx", "--url", service.url],
            cwd=tmp_path,
            env={**os.environ, "XDG_CONFIG_HOME": str(tmp_path)},
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            began.append(process)
            try:
                _, told = process.communicate(timeout=60)
            finally:
                process.kill()
        assert "/v1/jobs/job_1/cancel" in [request.path for request in service.requests]
    assert process.returncode == CANCELLED
    assert "planish jobs wait job_1" in told
    assert "job_1 was cancelled" in told.splitlines()[-1]


def test_without_data_nothing_is_asked_for_that_needs_data(run: Run, tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes(b"x")
    answers = [*BEGUN, *JOB_THAT_ENDS]
    with scripted(answers) as service:
        assert run("compress", model, "--url", service.url) == 0
    asked = json.loads(service.requests[2].body)
    assert asked["steps"] == [{"method": "quantize"}]
    assert (tmp_path / "m.small.onnx").read_bytes() == CONTENT


def test_a_file_for_another_runtime_is_called_what_it_is(run: Run, tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes(b"x")
    [artifact] = DONE["artifacts"]
    done = {**DONE, "artifacts": [{**artifact, "format": "litert", "filename": "mine.tflite"}]}
    answers = [answer(200, done) if each is JOB_THAT_ENDS[2] else each for each in JOB_THAT_ENDS]
    with scripted([*BEGUN, *answers]) as service:
        assert run("compress", model, "--target", "mobile-litert", "--url", service.url) == 0
    assert json.loads(service.requests[2].body)["target"] == "mobile-litert"
    assert (tmp_path / "m.small.tflite").read_bytes() == CONTENT
