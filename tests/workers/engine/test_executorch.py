"""ExecuTorch's converter and runtime, in the Python that has them."""

import os
import subprocess
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import workers
from tests.workers.engine.conftest import Run, report_of
from workers.tools import environments

TOOLS = environments.base(None)
WORK = "import sys, pathlib; from workers.tools.executorch import main; main(pathlib.Path('job'))"


def test_layers_that_xnnpack_leaves_in_float_read_what_was_rounded(
    job: Run, tmp_path: Path
) -> None:
    """Their outputs are not rounded, or neither of their operands is a constant."""
    if "executorch" not in environments.installed(TOOLS):
        pytest.skip("run: planish tools install executorch")
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
    ir.save(model, tmp_path / "m.onnx")
    order = {"steps": [], "deliver": ["onnx", "executorch"], "tools": ["executorch"]}
    assert job(tmp_path / "m.onnx", **order).tools == ["executorch"]
    python = environments.python_of(TOOLS, "executorch")
    path = str(Path(workers.__file__).parents[1])
    subprocess.run(
        [python, "-c", WORK], check=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}
    )
    result = job(tmp_path / "m.onnx", **order)
    report_of(result)
    errors = {artifact.format: artifact.max_error for artifact in result.artifacts}
    assert errors == {"onnx": 0, "executorch": pytest.approx(0, abs=1e-5)}
