"""Files of converters with a Python of their own, made and run there, without a worker."""

import os
import subprocess
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import workers
from app.domain.directory import Result
from app.domain.targets import TOOL_OF, OutputFormat
from tests.workers.engine.conftest import Run, report_of
from workers.tools import environments

TOOLS = environments.base(None)
CODE = "import sys, pathlib; from workers.tools.{} import main; main(pathlib.Path('job'))"


def delivered(job: Run, model: ir.Model, name: OutputFormat, directory: Path) -> Result:
    """Deliver a graph as it is, made by its tool."""
    tool = TOOL_OF[name]
    if tool not in environments.installed(TOOLS):
        pytest.skip(f"run: planish tools install {tool}")
    ir.save(model, directory / "m.onnx")
    order = {"steps": [], "deliver": ["onnx", name], "tools": [tool]}
    assert job(directory / "m.onnx", **order).tools == [tool]
    path = str(Path(workers.__file__).parents[1])
    words = [str(environments.python_of(TOOLS, tool)), "-c", CODE.format(tool)]
    subprocess.run(words, check=True, cwd=directory, env={**os.environ, "PYTHONPATH": path})
    return job(directory / "m.onnx", **order)


def error_of(job: Run, model: ir.Model, name: OutputFormat, directory: Path) -> float | None:
    """Deliver a graph as it is, and return how far the file's outputs are from the graph's."""
    result = delivered(job, model, name, directory)
    report_of(result)
    return {artifact.format: artifact.max_error for artifact in result.artifacts}[name]


def test_layers_that_xnnpack_leaves_in_float_read_what_was_rounded(
    job: Run, tmp_path: Path
) -> None:
    """Their outputs are not rounded, or neither of their operands is a constant."""
    text = """
    <ir_version: 9, opset_import: ["": 21]>
    net (float[N, 8] x) => (float[N, 3] y, float[8, 8] z)
    <float step = {0.02}, int8 zero = {3}> {
        q = QuantizeLinear(x, step, zero)
        d = DequantizeLinear(q, step, zero)
        w = DequantizeLinear(integers, step)
        y = MatMul(d, w)
        t = Tanh(x)
        s = Transpose(t)
        qs = QuantizeLinear(s, step, zero)
        ds = DequantizeLinear(qs, step, zero)
        z = MatMul(ds, d)
    }
    """
    integers = np.random.default_rng(0).integers(-127, 128, (8, 3), np.int8)
    model = ir.from_onnx_text(text, initializers=[ir.tensor(integers, name="integers")])
    assert error_of(job, model, "executorch", tmp_path) == pytest.approx(0, abs=1e-5)


def test_microcontrollers_run_a_masked_layer_over_more_than_ten_moments(
    job: Run, tmp_path: Path
) -> None:
    text = """
    <ir_version: 9, opset_import: ["": 21]>
    net (float[21, 3, 4] x, float[3, 4] h) => (float[3, 4] last, float[21, 3, 4] y)
    <float limit = {0.5}, int64[1] axis = {-1}> {
        large = Greater(x, limit)
        ones = Cast<to = 6>(large)
        most = ReduceMax(ones, axis)
        mask = Cast<to = 9>(most)
        last, y = Scan<num_scan_inputs = 2, body = moment (
            float[3, 4] s, float[3, 4] r, bool[3, 1] m) => (float[3, 4] t, float[3, 4] u) {
                a = Add(s, r)
                b = Tanh(a)
                t = Where(m, b, s)
                u = Identity(t)
            }>(h, x, mask)
    }
    """
    error = error_of(job, ir.from_onnx_text(text), "litert_micro", tmp_path)
    assert error == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "text", "node"),
    [
        (
            "litert_micro",
            """net (float[2] x) => (float[2] y)
            <float[2] w = {3, 4}, int64[2] places = {1, 0}, float step = {0.1}, int8 zero = {3}> {
                [other] a = GatherElements(x, places) [curve] b = Gelu(a)
                q = QuantizeLinear(b, step, zero) d = DequantizeLinear(q, step, zero)
                [again] c = Gelu(d) [last] y = Add(c, w)
            }""",
            "'curve' (Gelu)",
        ),
        (
            "executorch",
            """net (float[1, 1, 1, 1, 2] x) => (float[1, 1, 1, 1, 1] y)
            <float[1, 1, 1, 1, 2] w = {3, 4}> {
                [first] a = Relu(x) [volume] b = Conv(a, w) [last] y = Tanh(b)
            }""",
            "'volume' (Conv)",
        ),
    ],
)
def test_a_refusal_names_the_first_node_that_is_not_taken_for_its_reason(
    job: Run, tmp_path: Path, name: OutputFormat, text: str, node: str
) -> None:
    model = ir.from_onnx_text(f'<ir_version: 9, opset_import: ["": 21]> {text}')
    problem = delivered(job, model, name, tmp_path).problem
    assert problem is not None
    assert f"node {node}" in problem.detail
