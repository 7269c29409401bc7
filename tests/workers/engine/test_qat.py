"""What is trained is what is shipped, and it is better than what calibration alone gives."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray

from tests.workers.engine.conftest import Run, report_of
from tests.workers.intake.models import model, tensor, value, write
from workers.compression.executor import build
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
    nearest = {"mode": "static", "force": True, "learn_rounding": False, **step}
    static = _quality(job, exported["cnn"], digits_npz, nearest, "static")
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


@pytest.mark.parametrize("symmetric", [False, True])
def test_with_four_bits_everywhere_training_is_above_calibration(
    exported: dict[str, Path], digits_npz: Path, job: Run, symmetric: bool, tmp_path: Path
) -> None:
    """Activations have sixteen values, in integer kernels, and are those that were trained."""
    step = {"weights": "int4", "activations": "uint4", "symmetric": symmetric}
    static = _quality(
        job, exported["cnn"], digits_npz, {"mode": "static", "force": True, **step}, "static"
    )
    trained = _quality(job, exported["cnn"], digits_npz, {**TRAINED, **step}, "trained")
    assert trained > static
    path = tmp_path / "trained" / "artifacts" / "model.onnx"
    operators, (logits, *found) = _ran(path, digits_npz, tmp_path)
    assert operators.count("QLinearConv") == 4
    assert "Conv" not in operators
    _agree(path, digits_npz, logits)
    assert len(found) >= 5
    assert all(set(np.unique(integers)) <= set(range(16)) for integers in found)


@pytest.mark.parametrize("activations", ["uint6", "int8", "int16"])
def test_activations_of_any_type_are_onnxruntimes_and_the_executors(
    exported: dict[str, Path], digits_npz: Path, job: Run, activations: str, tmp_path: Path
) -> None:
    step = TRAINED | {"activations": activations, "recover": {"epochs": 1}}
    assert _quality(job, exported["cnn"], digits_npz, step, "job") > 0.93
    path = tmp_path / "job" / "artifacts" / "model.onnx"
    _, (logits, *found) = _ran(path, digits_npz, tmp_path)
    _agree(path, digits_npz, logits)
    levels = max(len(np.unique(integers)) for integers in found)
    assert {"uint6": levels <= 64, "int8": 64 < levels <= 256, "int16": levels > 256}[activations]


def _ran(path: Path, data: Path, scratch: Path) -> tuple[list[str], list[NDArray[Any]]]:
    """Return what onnxruntime made of a graph, and the logits and integers that it computes."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(scratch / "optimized.onnx")
    options.log_severity_level = 4
    feed = {"image": np.load(data)["image"][:200]}
    logits = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(None, feed)
    operators = [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]
    proto = onnx.load(path)
    nodes = [(node.op_type, node.input, node.output) for node in proto.graph.node]
    read = {inputs[0] for kind, inputs, _ in nodes if kind == "DequantizeLinear"}
    made = {outputs[0] for kind, _, outputs in nodes if kind in {"QuantizeLinear", "Clip"}}
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(read & made))
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return operators, [*logits, *session.run(sorted(read & made), feed)]


def _agree(path: Path, data: Path, wanted: NDArray[np.float32]) -> None:
    """Check that the executor answers as onnxruntime does, but for a rounding here and there."""
    images = torch.from_numpy(np.load(data)["image"][:200])
    found = build(load(path))({"image": images})["logits"].detach().numpy()
    assert np.median(np.abs(found - wanted)) < 1e-3 * np.abs(wanted).max()
    assert (found.argmax(1) == wanted.argmax(1)).mean() > 0.98


@pytest.mark.parametrize("weights", ["int2", "int4", "int5", "int8"])
def test_bits_are_what_the_file_takes(
    exported: dict[str, Path], digits_npz: Path, job: Run, weights: str, tmp_path: Path
) -> None:
    _quality(job, exported["mlp"], digits_npz, {"weights": weights}, "job")
    size = (tmp_path / "job" / "artifacts" / "model.onnx").stat().st_size
    elements = 64 * 256 + 256 * 128 + 128 * 10
    bits = 4 if weights in ("int2", "int4") else 8
    assert elements * bits / 8 < size < elements * bits / 8 + 13_000


def test_training_starts_where_calibration_ends(
    exported: dict[str, Path], digits_npz: Path, job: Run
) -> None:
    still = {"mode": "qat", "recover": {"epochs": 1, "learning_rate": 1e-9}}
    static = _quality(job, exported["vit"], digits_npz, {"mode": "static", "force": True}, "static")
    assert _quality(job, exported["vit"], digits_npz, still, "trained") == pytest.approx(
        static, abs=0.006
    )


def test_a_state_that_starts_from_zeros_of_the_batchs_size_is_no_obstacle(
    job: Run, tmp_path: Path
) -> None:
    """So do the cells of recurrent layers that an exporter unrolls."""
    random = np.random.default_rng(0)
    weights = {
        name: random.standard_normal(shape, dtype=np.float32)
        for name, shape in (("w", (4, 32)), ("r", (32, 32)), ("o", (32, 3)))
    }
    nodes = [
        onnx.helper.make_node("Shape", ["x"], ["batch"], start=0, end=1),
        onnx.helper.make_node("Concat", ["batch", "width"], ["size"], axis=0),
        onnx.helper.make_node("ConstantOfShape", ["size"], ["zeros"]),
        onnx.helper.make_node("MatMul", ["zeros", "r"], ["before"]),
        onnx.helper.make_node("MatMul", ["x", "w"], ["read"]),
        onnx.helper.make_node("Add", ["read", "before"], ["sum"]),
        onnx.helper.make_node("Tanh", ["sum"], ["state"]),
        onnx.helper.make_node("MatMul", ["state", "o"], ["y"]),
    ]
    constants = [tensor(name, array) for name, array in weights.items()]
    width = tensor("width", np.array([32]))
    cell = model(nodes, [value("x", "N", 4)], [value("y", "N", 3)], [*constants, width])
    data = tmp_path / "data.npz"
    np.savez(data, allow_pickle=False, x=random.standard_normal((64, 4), dtype=np.float32))
    step = {"method": "quantize", "mode": "qat", "recover": {"epochs": 1, "learning_rate": 1e-4}}
    report = report_of(job(write(cell, tmp_path / "cell.onnx"), step, data=data))
    assert report.compressed.fidelity is not None
    assert (report.compressed.fidelity.sqnr_db or 100) > 30
