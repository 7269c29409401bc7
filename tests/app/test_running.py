"""The lines beside a download run as they stand."""

import shutil
from pathlib import Path
from typing import Any

import onnx
import openvino
import pytest
from onnx import TensorProto, helper

from app.domain.job_answers import Artifact
from app.domain.latencies import RunInput, TimedRun
from app.domain.targets import OutputFormat
from app.web.dashboard import running

READS = TimedRun(
    inputs=[
        RunInput(name='an "x"', dtype="float32", shape=[2, 3]),
        RunInput(name="ids", dtype="int64", shape=[2, 3]),
    ],
    samples=2,
)


def _lines(kind: OutputFormat, run: TimedRun | None, name: str = "net.onnx") -> str:
    artifact = Artifact(id="art_1", format=kind, filename=name, size_bytes=1, sha256="0" * 64)
    return running.lines([artifact], run)["art_1"]


def test_the_lines_run_the_file_on_an_example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}
    inputs = [
        helper.make_tensor_value_info(each.name, kinds[each.dtype], ["N", 3])
        for each in READS.inputs
    ]
    nodes = [
        helper.make_node("Cast", ["ids"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Add", [READS.inputs[0].name, "floats"], ["y"]),
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])]
    graph = helper.make_graph(nodes, "net", inputs, outputs)
    opset = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), tmp_path / "net.onnx")
    monkeypatch.chdir(tmp_path)
    given: dict[str, Any] = {}
    exec(_lines("onnx", READS), given)
    assert given["outputs"][0].shape == (2, 3)
    openvino.save_model(openvino.convert_model("net.onnx"), "packed/model.xml")
    shutil.make_archive("net", "zip", "packed")
    exec(_lines("openvino", READS, "net.zip"), given)
    assert given["outputs"][0].shape == (2, 3)


def test_lines_for_tensors_have_them_in_order() -> None:
    lines = _lines("pt2", READS)
    first, second = (lines.index(f"torch.{dtype}") for dtype in ("float32", "int64"))
    assert first < second
    compile(lines, "lines", "exec")


def test_an_old_report_leaves_the_example_empty() -> None:
    assert "inputs = {}  # put your samples" in _lines("onnx", None)
