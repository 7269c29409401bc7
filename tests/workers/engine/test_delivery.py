"""A result in several formats: each is run on its own runtime, compared and timed."""

import zipfile
from pathlib import Path
from typing import Literal

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import openvino as ov
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from app.domain.directory import Produced, Result
from app.domain.problems import DeliveryFailed
from app.domain.reports import Fidelity
from app.domain.targets import OUTPUT_FORMATS
from tests.workers.engine.conftest import Run, report_of
from tests.workers.intake.models import mlp, model, tensor, value, write
from workers.compression import delivery
from workers.compression.delivery.artifacts import Delivered, shortfall
from workers.compression.delivery.farther import farther, other_numbers
from workers.compression.delivery.judging import against_onnxruntime, max_error
from workers.compression.measure.fidelity import Nearness
from workers.compression.measure.ratio import Ratio

STATIC = {"method": "quantize", "mode": "static", "force": True}
FLOAT32 = {"INFERENCE_PRECISION_HINT": "f32"}
"""Where the processor has bfloat16, OpenVINO computes in that by itself."""
IN_PROCESS = ["onnx", "ort", "openvino"]


def artifacts_of(result: Result) -> dict[str, Produced]:
    report_of(result)
    return {artifact.format: artifact for artifact in result.artifacts}


@pytest.mark.parametrize("model", ["cnn", "vit"])
def test_each_format_is_judged_on_the_held_out_samples_on_its_own_runtime(
    job: Run, exported: dict[str, Path], digits_npz: Path, model: str
) -> None:
    result = job(exported[model], STATIC, data=digits_npz, deliver=IN_PROCESS)
    found = artifacts_of(result)
    assert list(found) == IN_PROCESS
    report = report_of(result)
    assert report.compressed.quality is not None
    for name, artifact in found.items():
        assert artifact.ran, name
        assert artifact.runtime is not None
        assert artifact.latency_ms is not None
        assert artifact.latency_ms > 0
        assert artifact.quality is not None
        assert artifact.quality.samples == report.compressed.quality.samples
        assert artifact.quality.value == pytest.approx(report.compressed.quality.value, abs=0.01)
        assert artifact.fidelity is not None
        assert artifact.fidelity.agreement > 0.97
        assert artifact.max_error is not None
    assert found["onnx"].max_error == 0
    assert found["onnx"].latency_ms == report.compressed.latency_ms
    assert str(found["openvino"].runtime).startswith("openvino 20")
    compared = [line for line in report.verdict.splitlines() if "onnxruntime" in line]
    assert len(compared) == 1
    assert str(found["openvino"].runtime) in compared[0]


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        ((1.35, 1.3, 1.41), "runs the result 1.35 times faster (1.30 to 1.41) than onnxruntime"),
        ((0.5, 0.4, 0.8), "runs the result 2.00 times slower (1.25 to 2.50) than onnxruntime"),
        ((1.01, 0.99, 1.02), "runs the result as fast as onnxruntime"),
        ((0.14, 0.03, 0.75), "slower than onnxruntime does; how much slower, the machine was too"),
        ((1.2, 0.7, 2.0), "Whether fast 1 or onnxruntime is faster, these runs do not tell"),
    ],
)
def test_which_runtime_is_faster_is_a_sentence(
    ratio: tuple[float, float, float], words: str
) -> None:
    assert words in against_onnxruntime("fast 1", Ratio(*ratio))


def test_a_model_is_delivered_as_it_is_where_no_step_is_asked_for(job: Run, tmp_path: Path) -> None:
    model = write(mlp(), tmp_path / "model.onnx")
    result = job(model, steps=[], deliver=["onnx", "ort", "openvino"])
    assert report_of(result).step_reports == []
    for name, artifact in artifacts_of(result).items():
        assert artifact.ran, name
        assert artifact.max_error is not None
        assert artifact.max_error < 1e-5


def test_a_float_graph_is_the_same_on_every_runtime(
    job: Run, exported: dict[str, Path], digits_npz: Path, tmp_path: Path
) -> None:
    """The files that are downloaded are those that were measured."""
    sparse = {"method": "prune", "granularity": "unstructured"}
    result = job(exported["cnn"], sparse, data=digits_npz, deliver=IN_PROCESS)
    for name, artifact in artifacts_of(result).items():
        assert artifact.max_error is not None
        assert artifact.max_error < 1e-4, name
    files = tmp_path / "job" / "artifacts"
    rows = {"image": np.random.default_rng(0).random((3, 1, 8, 8), np.float32)}
    wanted = ort.InferenceSession(files / "model.onnx").run(None, rows)[0]
    given = ort.InferenceSession(files / "model.ort").run(None, rows)[0]
    np.testing.assert_allclose(given, wanted, atol=1e-4)
    with zipfile.ZipFile(files / "model-openvino.zip") as archive:
        assert archive.namelist() == ["model.xml", "model.bin"]
        archive.extractall(tmp_path)
    compiled = ov.Core().compile_model(tmp_path / "model.xml", "CPU", FLOAT32)
    np.testing.assert_allclose(compiled(rows)[0], wanted, atol=1e-4)


def test_a_torch_program_and_core_ml_are_made_of_the_same_export(
    job: Run, exported: dict[str, Path], digits_npz: Path, tmp_path: Path
) -> None:
    """Core ML cannot run here, and says so."""
    result = job(exported["cnn"], STATIC, data=digits_npz, deliver=["onnx", "pt2", "coreml"])
    found = artifacts_of(result)
    program, core = found["pt2"], found["coreml"]
    assert program.max_error is not None
    assert program.max_error < 0.05  # a part of a step: a rounding may fall on the other side
    assert not core.ran
    assert core.reason is not None
    assert "Apple" in core.reason
    assert (core.latency_ms, core.max_error, core.quality) == (None, None, None)
    with zipfile.ZipFile(tmp_path / "job" / "artifacts" / core.path) as archive:
        assert "model.mlpackage/Manifest.json" in archive.namelist()


def test_what_a_runtime_has_no_operator_for_is_told_and_the_others_are_kept(
    job: Run, tmp_path: Path
) -> None:
    text = """
    <ir_version: 9, opset_import: ["": 21, "ai.onnx.ml": 3]>
    labels (float[N, 4] x) => (float[N, 4] y)
    {
        a = ai.onnx.ml.Binarizer<threshold = 0.5>(x)
        y = MatMul(a, w)
    }
    """
    model = ir.from_onnx_text(text)
    kind, array = ir.TensorType(ir.DataType.FLOAT), np.eye(4, dtype=np.float32)
    weight = ir.Value(name="w", type=kind, shape=ir.Shape([4, 4]), const_value=ir.Tensor(array))
    model.graph.register_initializer(weight)
    path = tmp_path / "labels.onnx"
    ir.save(model, path)
    dynamic = {"method": "quantize", "mode": "dynamic", "force": True}
    result = job(path, dynamic, deliver=["onnx", "openvino"])
    assert result.problem is not None
    assert result.problem.type == "delivery-failed"
    assert "Binarizer" in result.problem.detail
    assert [artifact.format for artifact in result.artifacts] == ["onnx"]


def test_where_torch_cannot_export_it_is_said_at_which_node_and_what_to_deliver(
    job: Run, tmp_path: Path
) -> None:
    """A branch that is taken by the values of an input."""
    branches = {
        name: helper.make_graph(
            [helper.make_node(operator, ["h"], [name])], name, [], [value(name, "n", 8)]
        )
        for name, operator in (("then_branch", "Neg"), ("else_branch", "Abs"))
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Greater", ["most", "limit"], ["large"]),
        helper.make_node("If", ["large"], ["y"], "turn", **branches),
    ]
    weights = [tensor("w", np.eye(8, dtype=np.float32)), tensor("limit", np.array(0.5, np.float32))]
    graph = model(nodes, [value("x", "n", 8)], [value("y", "n", 8)], weights)
    result = job(write(graph, tmp_path / "branch.onnx"), steps=[], deliver=["onnx", "pt2"])
    assert result.problem is not None
    words = "torch refuses this model: a branch or a shape depends on values at node 'turn' (If)"
    assert words in result.problem.detail
    assert "Leave 'pt2' out of 'deliver'" in result.problem.detail
    assert result.problem.detail.endswith("The other artifacts are there.")
    assert [artifact.format for artifact in result.artifacts] == ["onnx"]


def test_an_input_that_is_a_single_number_stays_one(job: Run, tmp_path: Path) -> None:
    """Beside it, an output that the graph itself gives no number for is told, not counted."""
    nodes = [
        helper.make_node("Mul", ["x", "gain"], ["y"]),
        helper.make_node("Sub", ["gain", "large"], ["below"]),
        helper.make_node("Log", ["below"], ["z"]),
    ]
    ends = [value("y", "n", 8), value("z")]
    weights = [tensor("large", np.array(100, np.float32))]
    graph = model(nodes, [value("x", "n", 8), value("gain")], ends, weights)
    path = write(graph, tmp_path / "scaled.onnx")
    result = job(path, steps=[], deliver=["onnx", "openvino", "pt2"])
    for artifact in artifacts_of(result).values():
        assert artifact.max_error == pytest.approx(0, abs=1e-6)
        if artifact.format != "onnx":
            assert "itself gives no numbers" in str(artifact.reason)


def test_openvino_takes_windows_that_are_larger_than_what_they_read(
    job: Run, tmp_path: Path
) -> None:
    text = """
    <ir_version: 9, opset_import: ["": 21]>
    net (float[n, 2, 1, 3] x) => (float[n, 2, 1, 2] y) {
        a = AveragePool<kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1>(x)
        y = MaxPool<kernel_shape = [2, 1], strides = [2, 1]>(a)
    }
    """
    ir.save(ir.from_onnx_text(text), tmp_path / "m.onnx")
    found = artifacts_of(job(tmp_path / "m.onnx", steps=[], deliver=["onnx", "openvino"]))
    assert found["openvino"].ran
    assert found["openvino"].max_error == pytest.approx(0, abs=1e-6)


def test_what_core_ml_does_not_convert_is_named(job: Run, tmp_path: Path) -> None:
    pytest.importorskip("coremltools")
    nodes = [
        helper.make_node("Greater", ["x", "limit"], ["large"]),
        helper.make_node("Gather", ["large", "chosen"], ["some"], axis=1),
        helper.make_node("Cast", ["some"], ["y"], to=TensorProto.FLOAT),
    ]
    weights = [tensor("limit", np.array(0, np.float32)), tensor("chosen", np.array([5, 1]))]
    path = write(model(nodes, [value("x", "n", 8)], [value("y", "n", 2)], weights), tmp_path / "a")
    result = job(path, steps=[], deliver=["onnx", "coreml"])
    assert result.problem is not None
    assert "at node 'some' (Gather)" in result.problem.detail


def test_core_ml_takes_cuts_that_leave_all(job: Run, tmp_path: Path) -> None:
    """As where an exporter bounds a length that is dynamic."""
    pytest.importorskip("coremltools")
    nodes = [
        helper.make_node("Slice", ["x", "begin", "end", "axis"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Slice", ["r", "begin", "end", "axis"], ["y"]),
    ]
    bounds = [tensor(n, np.array([at])) for n, at in (("begin", 0), ("end", 500), ("axis", 1))]
    file = model(nodes, [value("x", "n", "t", 8)], [value("y", "n", "t", 8)], bounds)
    found = artifacts_of(job(write(file, tmp_path / "a"), steps=[], deliver=["onnx", "coreml"]))
    assert found["coreml"].path == "model-coreml.zip"


def test_what_openvino_refuses_is_named_and_not_what_it_leaves_without_a_type(
    job: Run, tmp_path: Path
) -> None:
    text = """
    <ir_version: 9, opset_import: ["": 21]>
    net (float[N, 3, 3] x) => (float[N] y) {
        d = Det(x)
        step = Constant<value = float {0.1}>()
        zero = Constant<value = int8 {0}>()
        q = QuantizeLinear(d, step, zero)
        y = DequantizeLinear(q, step, zero)
    }
    """
    ir.save(ir.from_onnx_text(text), tmp_path / "m.onnx")
    result = job(tmp_path / "m.onnx", steps=[], deliver=["onnx", "openvino"])
    assert result.problem is not None
    assert "the operator Det at node 'd' (Det)" in result.problem.detail


def test_openvino_adds_to_each_channel_its_own_bias(job: Run, tmp_path: Path) -> None:
    """Where patches of a picture become rows, as in vision transformers."""
    text = """
    <ir_version: 9, opset_import: ["": 21]>
    net (float[N, 3, 16, 16] x) => (float[N, 17, 8] y)
    <float s = {0.03}, uint8 z = {128}, float t = {0.02}, int64[3] rows = {0, 8, -1},
    int64[2] ones = {1, 1}> {
        q = QuantizeLinear(x, s, z)
        d = DequantizeLinear(q, s, z)
        w = DequantizeLinear(weight, t)
        c = Conv<kernel_shape = [4, 4], strides = [4, 4]>(d, w, bias)
        p = QuantizeLinear(c, s, z)
        e = DequantizeLinear(p, s, z)
        r = Reshape(e, rows)
        u = Transpose<perm = [0, 2, 1]>(r)
        many = Shape<start = 0, end = 1>(u)
        shape = Concat<axis = 0>(many, ones)
        first = Expand(token, shape)
        v = Concat<axis = 1>(first, u)
        y = Add(v, place)
    }
    """
    draw = np.random.default_rng(0)
    weight = draw.integers(-10, 10, (8, 3, 4, 4), np.int8)
    floats = {"bias": (8,), "token": (1, 1, 8), "place": (1, 17, 8)}
    made = {name: draw.standard_normal(n).astype(np.float32) for name, n in floats.items()}
    made |= {"weight": weight}
    constants = [ir.tensor(array, name=name) for name, array in made.items()]
    ir.save(ir.from_onnx_text(text, initializers=constants), tmp_path / "m.onnx")
    result = job(tmp_path / "m.onnx", steps=[], deliver=["onnx", "openvino"])
    assert artifacts_of(result)["openvino"].max_error == pytest.approx(0, abs=0.031)


def test_openvino_runs_scans_that_read_what_is_computed_around_them(
    job: Run, tmp_path: Path
) -> None:
    """As the weights of a recurrent layer are that are stored in int8, or shared by two scans."""
    text = """
    <ir_version: 9, opset_import: ["": 21]>
    net (float[5, 3, 4] x, float[4, 4] w, float[3, 4] h) => (float[3, 4] y, float[5, 3, 4] z) {
        v = Tanh(w)
        y, o = Scan<num_scan_inputs = 1, body = there (float[3, 4] s, float[3, 4] r)
            => (float[3, 4] t, float[3, 4] u) {
                p = MatMul(r, v)
                t = Add(s, p)
                u = Tanh(t)
            }>(h, x)
        l, z = Scan<num_scan_inputs = 1, scan_input_directions = [1], body = back (
            float[3, 4] k, float[3, 4] m) => (float[3, 4] n, float[3, 4] g) {
                e = MatMul(m, v)
                n = Add(e, y)
                f = Mul(n, k)
                g = Tanh(f)
            }>(h, o)
    }
    """
    ir.save(ir.from_onnx_text(text), tmp_path / "m.onnx")
    result = job(tmp_path / "m.onnx", steps=[], deliver=["onnx", "openvino"])
    assert artifacts_of(result)["openvino"].max_error == pytest.approx(0, abs=1e-5)


def test_a_job_that_could_write_no_format_names_no_other_artifacts() -> None:
    refused = DeliveryFailed("torch refuses this model.")
    problem = shortfall(Delivered({}, {"pt2": refused}, []))
    assert problem is not None
    words = "'pt2': torch refuses this model. Deliver 'onnx', which takes every result."
    assert problem.detail == words


def classifier(path: Path) -> Path:
    """Write a network that ends with a Softmax, as Keras' do."""
    text = """
    <ir_version: 9, opset_import: ["": 21]>
    net (float[N, 8] x) => (float[N, 4] y) {
        h = MatMul(x, w)
        y = Softmax(h)
    }
    """
    weights = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)
    model = ir.from_onnx_text(text, initializers=[ir.tensor(weights, name="w")])
    ir.save(model, path)
    return path


def test_a_network_that_ends_with_shares_is_a_torch_program(job: Run, tmp_path: Path) -> None:
    result = job(classifier(tmp_path / "m.onnx"), steps=[], deliver=["pt2", "coreml"])
    found = artifacts_of(result)
    assert found["pt2"].max_error is not None
    assert found["pt2"].max_error < 1e-6


def test_a_dynamically_quantized_network_is_a_torch_program(job: Run, tmp_path: Path) -> None:
    dynamic = {"method": "quantize", "mode": "dynamic", "force": True}
    found = artifacts_of(job(classifier(tmp_path / "m.onnx"), dynamic, deliver=["pt2"]))
    assert found["pt2"].max_error is not None
    assert found["pt2"].max_error < 0.02


def test_openvino_runs_a_recurrent_network_whose_zeros_are_packed(job: Run, tmp_path: Path) -> None:
    text = """
    <ir_version: 9, opset_import: ["": 21]>
    net (float[5, N, 16] x) => (float[5, N, 32] y) {
        h, last = GRU<hidden_size = 32, linear_before_reset = 1>(x, w, r)
        zero = Constant<value_ints = [1]>()
        y = Squeeze(h, zero)
    }
    """
    draw = np.random.default_rng(0)
    weights = [
        ir.tensor(draw.standard_normal((1, 96, width)).astype(np.float32), name=name)
        for name, width in (("w", 16), ("r", 32))
    ]
    ir.save(ir.from_onnx_text(text, initializers=weights), tmp_path / "gru.onnx")
    sparse = {"method": "prune", "granularity": "unstructured", "sparsity": 0.8}
    found = artifacts_of(job(tmp_path / "gru.onnx", sparse, deliver=["openvino"]))
    assert found["openvino"].ran, found["openvino"].reason
    assert found["openvino"].max_error is not None
    assert found["openvino"].max_error < 1e-5


def test_openvino_reads_tables_whose_grids_are_those_of_columns(job: Run, tmp_path: Path) -> None:
    """Its Gather reads past the steps of such a packed table, which ended the process."""
    draw = np.random.default_rng(0)
    steps = np.exp2(draw.integers(-8, -4, (1, 384))).astype(np.float32)
    table = draw.integers(-127, 128, (512, 384)).astype(np.float32) * steps
    table[0] = 127 * steps
    nodes = [helper.make_node("Gather", ["table", "x"], ["y"])]
    inputs = [value("x", "N", 8, dtype=TensorProto.INT64)]
    proto = model(nodes, inputs, [value("y", "N", 8, 384)], [tensor("table", table)], opset=21)
    small, file = {"method": "quantize", "prefer": "size"}, write(proto, tmp_path / "m.onnx")
    found = artifacts_of(job(file, small, deliver=["openvino"], apart=True))
    assert found["openvino"].ran, found["openvino"].reason
    assert found["openvino"].max_error is not None
    assert found["openvino"].max_error < 1e-5


def test_openvino_multiplies_by_weights_whose_grids_are_those_of_inputs(
    job: Run, tmp_path: Path
) -> None:
    """Its product of a few rows with such a packed weight gives wrong numbers."""
    draw = np.random.default_rng(0)
    steps = np.exp2(draw.integers(-8, -4, (384, 1))).astype(np.float32)
    grids = draw.integers(-127, 128, (384, 64)).astype(np.float32) * steps
    grids[:, :1] = 127 * steps
    nodes = [
        helper.make_node("MatMul", ["x", "grids"], ["h"], "on_grids"),
        helper.make_node("MatMul", ["h", "w"], ["y"]),
    ]
    weights = [tensor("grids", grids), tensor("w", draw.standard_normal((64, 32)).astype("f"))]
    proto = model(nodes, [value("x", "N", 384)], [value("y", "N", 32)], weights, opset=21)
    half = {"method": "quantize", "mode": "float16", "ignore": ["on_grids"]}
    found = artifacts_of(job(write(proto, tmp_path / "m.onnx"), half, deliver=["onnx", "openvino"]))
    constants = ir.load(tmp_path / "job" / "artifacts" / "model.onnx").graph.initializers
    assert constants["grids_steps"].shape == ir.Shape([384, 1])
    assert found["openvino"].max_error is not None
    assert found["openvino"].max_error < 1e-3


def test_formats_and_their_rows_are_the_same() -> None:
    assert set(delivery.FORMS) <= set(OUTPUT_FORMATS)
    assert set(IN_PROCESS) <= set(delivery.runtimes())


def test_an_error_is_the_largest_difference_and_infinite_where_nothing_can_be_compared() -> None:
    """Where the graph itself gives no number, nothing is expected."""

    def of(wanted: NDArray[np.float32], given: NDArray[np.float32]) -> float:
        return max_error({"y": wanted}, {"y": given})

    one = np.array([[1.0, np.nan, np.inf]], np.float32)
    assert of(one, one) == 0
    assert of(one, np.array([[1.5, np.nan, np.inf]], np.float32)) == 0.5
    assert of(one, np.array([[1.0, 0.0, np.inf]], np.float32)) == 0
    assert of(np.nan_to_num(one), one) == np.inf
    assert of(one, one[:, :2]) == np.inf


@pytest.mark.parametrize(
    ("bounded", "graph", "file", "said"),
    [
        ("explained", 0.999, -3.0, "keeps nothing of the original's variance, the ONNX graph 99.9"),
        ("explained", 0.999, 0.985, "keeps 98.5 % of the original's variance, the ONNX graph 99"),
        ("explained", 0.999, 0.995, None),
        ("explained", None, None, None),
        ("agreement", 1.0, 0.4, "keeps 40.0 % of the original's answers, the ONNX graph 100"),
        ("agreement", 1.0, 0.94, None),
    ],
)  # fmt: skip
def test_a_file_that_is_farther_from_the_original_than_the_graph_is_called_that(
    bounded: Literal["agreement", "explained"],
    graph: float | None,
    file: float | None,
    said: str | None,
) -> None:
    """One answer of sixteen, which is 6 %, is no reason."""

    def of(kept: float | None) -> Fidelity | None:
        if kept is None:
            return None
        agreement = kept if bounded == "agreement" else 1.0
        return Fidelity(sqnr_db=None, agreement=agreement, explained=kept, bounded=bounded)

    found = farther(of(graph), of(file))
    assert found is None if said is None else said in str(found)


@pytest.mark.parametrize("wrong", [None, "rate"])
def test_a_file_that_has_other_numbers_in_one_output_is_called_that(wrong: str | None) -> None:
    """Be it not the output whose answers are counted."""
    draw = np.random.default_rng(0)
    beside = Nearness()
    for _ in range(8):
        given = {name: draw.standard_normal((1, 2)) for name in ("state", "rate")}
        beside.add(given, {name: y + 30 * (name == wrong) for name, y in given.items()})
    found = other_numbers(beside)
    assert (found is None) == (wrong is None)
    if found is not None:
        assert found.endswith("in output 'rate' it keeps nothing of the graph's variance")
