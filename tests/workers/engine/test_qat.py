"""What is trained is what is shipped, and it is better than what calibration alone gives."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from tests.workers.engine.conftest import Run, report_of
from workers.compression.graph.editor import constant
from workers.compression.graph.load import load

TRAINED = {"mode": "qat", "recover": {"epochs": 4, "learning_rate": 2e-3}}


def _quality(job: Run, model: Path, data: Path, step: dict[str, Any], name: str) -> float:
    report = report_of(job(model, {"method": "quantize", **step}, data=data, name=name))
    assert report.compressed.quality is not None
    return report.compressed.quality.value


def test_with_two_bits_training_is_well_above_calibration(
    exported: dict[str, Path], digits_npz: Path, job: Run
) -> None:
    step = {"weights": "int2"}
    static = _quality(job, exported["cnn"], digits_npz, {"mode": "static", **step}, "static")
    trained = _quality(job, exported["cnn"], digits_npz, {**TRAINED, **step}, "trained")
    assert trained > static + 0.1


@pytest.mark.parametrize("learn_steps", [True, False])
def test_eight_bits_lose_nothing_and_run_in_integers(
    exported: dict[str, Path], digits_npz: Path, job: Run, learn_steps: bool, tmp_path: Path
) -> None:
    step = TRAINED | {"learn_steps": learn_steps}
    assert _quality(job, exported["cnn"], digits_npz, step, "job") > 0.95
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 4
    artifact = tmp_path / "job" / "artifacts" / "model.onnx"
    ort.InferenceSession(artifact, options, providers=["CPUExecutionProvider"])
    operators = [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]
    assert "QLinearConv" in operators


def test_weights_of_four_bits_are_packed_and_nothing_else_is_kept_of_them(
    exported: dict[str, Path], digits_npz: Path, job: Run, tmp_path: Path
) -> None:
    assert _quality(job, exported["cnn"], digits_npz, TRAINED | {"weights": "int4"}, "job") > 0.93
    initializers = load(tmp_path / "job" / "artifacts" / "model.onnx").graph.initializers
    packed = [v for name, v in initializers.items() if name.endswith("_packed")]
    assert packed
    assert max(np.abs(constant(value).astype(np.int8)).max() for value in packed) <= 7
    floats = [
        v for v in initializers.values() if v.dtype is not None and v.dtype.is_floating_point()
    ]
    assert all(constant(value).ndim <= 1 for value in floats)


@pytest.mark.parametrize("weights", ["int2", "int4", "int5", "int8"])
def test_bits_are_what_the_file_takes(
    exported: dict[str, Path], digits_npz: Path, job: Run, weights: str, tmp_path: Path
) -> None:
    _quality(job, exported["mlp"], digits_npz, {"weights": weights}, "job")
    size = (tmp_path / "job" / "artifacts" / "model.onnx").stat().st_size
    elements = 64 * 256 + 256 * 128 + 128 * 10
    bits = 4 if weights in ("int2", "int4") else 8
    assert elements * bits / 8 < size < elements * bits / 8 + 12_000


def test_training_starts_where_calibration_ends(
    exported: dict[str, Path], digits_npz: Path, job: Run
) -> None:
    still = {"mode": "qat", "recover": {"epochs": 1, "learning_rate": 1e-9}}
    static = _quality(job, exported["vit"], digits_npz, {"mode": "static"}, "static")
    assert _quality(job, exported["vit"], digits_npz, still, "trained") == pytest.approx(
        static, abs=0.006
    )
