"""What is deep, long or without end is inspected, or refused, within bounds."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from app.domain.directory import ORDER, RESULT, UPLOAD, InspectModel, Result
from tests.workers.intake.models import model, tensor, value, write
from workers.compression.intake.inspect import inspect_model
from workers.sandbox.limits import Limits
from workers.sandbox.server import Sandbox

LIMITS = Limits(
    memory_bytes=2 << 30,
    cpu_seconds=None,
    file_bytes=64 << 20,
    directory_bytes=256 << 20,
    processes=60,
    wall_seconds=60,
)
ENDLESS = 10**9
MEASURED = """
import re, sys
from pathlib import Path
import workers.compression.intake.inspect
from workers.compression.__main__ import main

def peak():
    return int(re.findall(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[0]) << 10

before = peak()
main(Path(sys.argv[1]))
print(peak() - before)
"""
"""An engine that says by how many bytes its peak of memory grew."""


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(threads=1) as sandbox:
        yield sandbox


def loop(trips: int) -> onnx.ModelProto:
    """Return a model that adds one to its input ``trips`` times."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["on"]),
            helper.make_node("Add", ["state", "one"], ["next"]),
        ],
        "body",
        [
            value("trip", dtype=TensorProto.INT64),
            value("go", dtype=TensorProto.BOOL),
            value("state", "N", 2),
        ],
        [value("on", dtype=TensorProto.BOOL), value("next", "N", 2)],
    )
    return model(
        [helper.make_node("Loop", ["trips", "true", "x"], ["y"], "forever", body=body)],
        [value("x", "N", 2)],
        [value("y", "N", 2)],
        [tensor("trips", np.array(trips)), tensor("true", np.array(True)),
         tensor("one", np.float32(1))],
    )  # fmt: skip


def test_an_upload_that_runs_on_is_stopped_and_refused(sandbox: Sandbox, tmp_path: Path) -> None:
    write(loop(ENDLESS), tmp_path / UPLOAD)
    (tmp_path / ORDER).write_text(InspectModel().model_dump_json())
    ended = sandbox.start(tmp_path, LIMITS).wait(LIMITS.wall_seconds)
    assert ended is not None
    assert (ended.code, ended.reason) == (0, "exited")
    problem = Result.model_validate_json((tmp_path / RESULT).read_bytes()).problem
    assert problem is not None
    assert "a Loop in it goes on for too long" in problem.detail


def test_a_loop_that_ends_is_inspected(tmp_path: Path) -> None:
    found = inspect_model(write(loop(1_000), tmp_path / UPLOAD), tmp_path)
    assert found.operators["Loop"] == 1
    assert found.notes == []


def test_weights_take_less_than_three_times_their_file(tmp_path: Path) -> None:
    width, layers = 1_024, 16
    weights = [tensor(f"w{index}", np.eye(width, dtype=np.float32)) for index in range(layers)]
    names = ["x", *(f"v{index}" for index in range(layers - 1)), "y"]
    nodes = [
        helper.make_node("MatMul", [names[index], f"w{index}"], [names[index + 1]])
        for index in range(layers)
    ]
    ends = [value(name, "N", width) for name in ("x", "y")]
    upload = write(model(nodes, ends[:1], ends[1:], weights), tmp_path / UPLOAD)
    (tmp_path / ORDER).write_text(InspectModel().model_dump_json())
    said = subprocess.run(
        [sys.executable, "-c", MEASURED, str(tmp_path)],
        stdout=subprocess.PIPE,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ).stdout
    assert Result.model_validate_json((tmp_path / RESULT).read_bytes()).model is not None
    assert int(said) < 3 * upload.stat().st_size


def test_a_chain_of_many_thousand_nodes_overflows_nothing(tmp_path: Path) -> None:
    count = 20_000
    names = ["x", *(f"v{index}" for index in range(count - 1)), "y"]
    nodes = [
        helper.make_node(("Relu", "Neg", "Abs")[index % 3], [names[index]], [names[index + 1]])
        for index in range(count)
    ]
    upload = write(model(nodes, [value("x", "N", 2)], [value("y", "N", 2)]), tmp_path / UPLOAD)
    found = inspect_model(upload, tmp_path)
    assert sum(found.operators.values()) == count
    assert found.notes == []
