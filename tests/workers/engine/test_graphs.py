"""Odd graphs stay right: their results stay near, and what is left alone says why."""

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from app.domain.problems import StepFailed
from app.domain.steps import Quantize
from app.domain.steps.recover import Recover
from tests.workers.engine.stored import named
from workers.compression.graph import runtime
from workers.compression.graph.editor import name_nodes
from workers.compression.graph.inference import infer
from workers.compression.graph.load import load, save
from workers.compression.measure.fidelity import Closeness, Profile
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.quantize import quantize
from workers.compression.samples import axis
from workers.compression.samples.context import Context, Samples

Shapes = dict[str, tuple[int, ...]]

TRAINED = Quantize(mode="qat", recover=Recover(epochs=1, learning_rate=1e-6))
STATIC = Quantize(mode="static", force=True, calibration_samples=32)
SIXTEEN_BITS = Quantize(mode="static", force=True, activations="int16")
DYNAMIC = Quantize(mode="dynamic", force=True)
FLOAT16 = Quantize(mode="float16", force=True)
WEIGHTS = Quantize(
    mode="static",
    force=True,
    activations="none",
    operators=["Conv", "ConvTranspose", "Gather", "Gemm", "MatMul"],
)


def graph(directory: Path, text: str, weights: Shapes, opset: int = 17) -> Path:
    """Write a model from ONNX text, its weights drawn from a seed."""
    header = f'<ir_version: 8, opset_import: ["" : {opset}]>\n'
    proto = onnx.parser.parse_model(header + text)
    generator = np.random.default_rng(1)
    del proto.graph.initializer[:]
    for name, shape in weights.items():
        array = np.asarray(generator.standard_normal(shape), np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    path = directory / "model.onnx"
    onnx.save(proto, path)
    return path


def apply(path: Path, parameters: Quantize, **inputs: NDArray[Any]) -> tuple[Outcome, float]:
    """Quantize a graph on its inputs; return the outcome and its SQNR in dB (inf if equal)."""
    count = len(next(iter(inputs.values())))
    graph = named(path)
    run = partial(runtime.run, runtime.open_session(path))
    samples = Samples(inputs, None, range(count))
    samples = replace(samples, layout=axis.find(graph, run, samples))
    context = Context(
        samples, seed=0, threads=1, example=samples.first_run(), layout=samples.layout,
        original=path, isolated_run=lambda *_: 1,
    )  # fmt: skip
    outcome = quantize(graph, parameters, context, lambda _: None)
    done = path.with_name("quantized.onnx")
    save(outcome.model, done)
    onnx.checker.check_model(str(done))
    sessions = [ort.InferenceSession(p, providers=["CPUExecutionProvider"]) for p in (path, done)]
    names = [output.name for output in sessions[0].get_outputs()]
    closeness = Closeness(names[0], Profile())
    for feeds, _ in samples.runs():
        before, after = (dict(zip(names, s.run(names, feeds), strict=True)) for s in sessions)
        closeness.add(before, after)
    found = closeness.value.sqnr_db
    return outcome, float("inf") if found is None else found


def normal(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def reasons(outcome: Outcome) -> dict[str, str]:
    return {skipped.node: skipped.reason for skipped in outcome.skipped}


@pytest.mark.parametrize(
    "parameters", [STATIC, DYNAMIC, WEIGHTS], ids=["static", "dynamic", "weights"]
)
@pytest.mark.parametrize("attributes", ["", "<transB = 1>", "<alpha = 0.5, beta = 2.0>"])
def test_a_gemm_in_any_form(tmp_path: Path, attributes: str, parameters: Quantize) -> None:
    shape = (24, 16) if "transB" in attributes else (16, 24)
    text = f"g (float[N, 16] x) => (float[N, 24] y) {{ y = Gemm {attributes} (x, w, b) }}"
    path = graph(tmp_path, text, {"w": shape, "b": (24,)})
    outcome, sqnr = apply(path, parameters, x=normal(32, 16))
    assert [layer.operator for layer in outcome.layers] == ["Gemm"]
    assert "per channel" in outcome.layers[0].change
    assert sqnr > 30


@pytest.mark.parametrize(
    "parameters", [STATIC, DYNAMIC, WEIGHTS], ids=["static", "dynamic", "weights"]
)
@pytest.mark.parametrize("weight", [(16, 8), (3, 16, 8), (1, 16, 8)])
def test_a_product_with_a_stack_of_matrices(
    tmp_path: Path, weight: tuple[int, ...], parameters: Quantize
) -> None:
    text = "g (float[N, 3, 5, 16] x) => (float[N, 3, 5, 8] y) { y = MatMul(x, w) }"
    path = graph(tmp_path, text, {"w": weight})
    _, sqnr = apply(path, parameters, x=normal(32, 3, 5, 16))
    assert sqnr > 30


def test_products_of_two_computed_tensors_and_weights_on_the_left_stay(tmp_path: Path) -> None:
    text = """g (float[N, 8, 8] x) => (float[N, 8, 8] y) {
        a = MatMul(w, x)
        y = MatMul(a, x)
    }"""
    path = graph(tmp_path, text, {"w": (8, 8)})
    outcome, sqnr = apply(path, STATIC, x=normal(8, 8, 8))
    assert sqnr == float("inf")
    assert outcome.layers == []
    assert "left operand" in reasons(outcome)["MatMul_0"]
    assert "two computed tensors" in reasons(outcome)["MatMul_1"]


def test_a_transposed_convolution_keeps_its_weights_in_int8_only(tmp_path: Path) -> None:
    text = """g (float[N, 6, 5, 5] x) => (float[N, 8, 7, 7] y) {
        y = ConvTranspose <group = 2> (x, w, b)
    }"""
    path = graph(tmp_path, text, {"w": (6, 4, 3, 3), "b": (8,)})
    outcome, sqnr = apply(path, STATIC, x=normal(8, 6, 5, 5))
    assert "computed in float" in outcome.layers[0].change
    assert sqnr > 30


def test_a_look_up_reads_int8_rows(tmp_path: Path) -> None:
    text = "g (int64[N, 4] i) => (float[N, 4, 32] y) { y = Gather(w, i) }"
    path = graph(tmp_path, text, {"w": (100, 32)})
    rows = np.random.default_rng(0).integers(0, 100, (8, 4))
    outcome, sqnr = apply(path, WEIGHTS, i=rows)
    assert [layer.operator for layer in outcome.layers] == ["Gather"]
    assert sqnr > 35


def test_layers_that_share_a_weight_share_its_integers(tmp_path: Path) -> None:
    text = """g (float[N, 16] x) => (float[N, 16] y) {
        a = MatMul(x, w)
        r = Relu(a)
        y = MatMul(r, w)
    }"""
    path = graph(tmp_path, text, {"w": (16, 16)})
    outcome, sqnr = apply(path, STATIC, x=normal(32, 16))
    stored = [v for v in outcome.model.graph.initializers.values() if v.dtype == ir.DataType.INT8]
    assert [v.name for v in stored if v.const_value is not None and v.const_value.size == 256] == [
        "w_quantized"
    ]
    assert sqnr > 25


def test_long_names_make_a_quantized_file_no_larger_than_its_original(tmp_path: Path) -> None:
    def sizes(longer: str) -> tuple[int, int]:
        text = f"""g (float[N, 16] x) => (float[N, 16] y) {{
            a{longer} = MatMul(x, w{longer})
            r{longer} = Relu(a{longer})
            y = MatMul(r{longer}, v{longer})
        }}"""
        path = graph(tmp_path, text, {f"w{longer}": (16, 16), f"v{longer}": (16, 16)})
        apply(path, STATIC, x=normal(32, 16))
        original = named(path)
        infer(original)
        save(original, path)
        return path.stat().st_size, path.with_name("quantized.onnx").stat().st_size

    original, quantized = (
        long - short for long, short in zip(sizes("n" * 99), sizes(""), strict=True)
    )
    assert 0 < quantized <= original


def test_zero_points_that_are_the_same_are_stored_once(tmp_path: Path) -> None:
    text = """g (float[N, 16] x) => (float[N, 16] y) {
        a = MatMul(x, w)
        y = MatMul(a, v)
    }"""
    path = graph(tmp_path, text, {"w": (16, 16), "v": (16, 16)})
    outcome, sqnr = apply(path, STATIC, x=normal(32, 16))
    zeros = [node.inputs[2] for node in outcome.model.graph if node.op_type == "DequantizeLinear"]
    of_weights = [zero for zero in zeros if zero is not None and zero.shape == (16,)]
    assert len(of_weights) == 2
    assert of_weights[0] is of_weights[1]
    assert sqnr > 25


def test_a_weight_that_a_float_node_reads_too_is_left_alone(tmp_path: Path) -> None:
    text = """g (float[N, 16] x) => (float[N, 16] y) {
        a = MatMul(x, w)
        s = ReduceSum <keepdims = 0> (w)
        y = Mul(a, s)
    }"""
    path = graph(tmp_path, text, {"w": (16, 16)})
    outcome, sqnr = apply(path, STATIC, x=normal(8, 16))
    assert "shares its weight" in reasons(outcome)["MatMul_0"]
    assert sqnr == float("inf")


def test_a_convolution_that_is_an_output_and_an_input_keeps_both_names(tmp_path: Path) -> None:
    text = """g (float[N, 3, 6, 6] x) => (float[N, 8, 4, 4] y, float[N, 4, 2, 2] z) {
        y = Conv(x, w)
        z = Conv(y, v)
    }"""
    path = graph(tmp_path, text, {"w": (8, 3, 3, 3), "v": (4, 8, 3, 3)})
    outcome, sqnr = apply(path, STATIC, x=normal(32, 3, 6, 6))
    assert [value.name for value in outcome.model.graph.outputs] == ["y", "z"]
    assert sqnr > 25


def test_a_clip_tighter_than_the_range_still_clips(tmp_path: Path) -> None:
    """The output never leaves the bounds, whatever the input."""
    text = """g (float[N, 3, 6, 6] x) => (float[N, 8, 4, 4] y) {
        c = Conv(x, w)
        y = Clip(c, low, high)
    }"""
    path = graph(tmp_path, text, {"w": (8, 3, 3, 3), "low": (), "high": ()})
    proto = onnx.load(path)
    for name, bound in (("low", 0), ("high", 6)):
        (old,) = (t for t in proto.graph.initializer if t.name == name)
        old.CopyFrom(onnx.numpy_helper.from_array(np.array(bound, np.float32), name))
    onnx.save(proto, path)
    apply(path, STATIC, x=normal(32, 3, 6, 6))
    session = ort.InferenceSession(path.with_name("quantized.onnx"))
    (answer,) = session.run(None, {"x": normal(4, 3, 6, 6) * 100})
    assert answer.min() >= 0
    assert answer.max() <= 6


@pytest.mark.parametrize("activations", ["uint8", "int16"])
def test_an_old_opset_is_lifted_or_uses_the_runtimes_own_operators(
    tmp_path: Path, activations: str
) -> None:
    text = "g (float[N, 3, 6, 6] x) => (float[N, 8, 4, 4] y) { y = Conv(x, w, b) }"
    path = graph(tmp_path, text, {"w": (8, 3, 3, 3), "b": (8,)}, opset=10)
    parameters = Quantize.model_validate(
        {"mode": "static", "activations": activations, "force": True}
    )
    outcome, sqnr = apply(path, parameters, x=normal(32, 3, 6, 6))
    assert outcome.model.graph.opset_imports[""] >= 13
    assert sqnr > 30


@pytest.mark.parametrize(
    "parameters", [STATIC, DYNAMIC, FLOAT16], ids=["static", "dynamic", "half"]
)
@pytest.mark.parametrize("batch", ["1", "4"])
def test_a_fixed_batch_and_several_inputs(tmp_path: Path, batch: str, parameters: Quantize) -> None:
    text = """g (float[B, 16] x, float[B, 16] z) => (float[B, 8] y) {
        a = Add(x, z)
        y = MatMul(a, w)
    }"""
    path = graph(tmp_path, text.replace("B", batch), {"w": (16, 8)})
    outcome, sqnr = apply(path, parameters, x=normal(30, 16), z=normal(30, 16))
    assert len(outcome.layers) == 1
    assert sqnr > 30


def test_scales_of_one_number_have_no_axes(tmp_path: Path) -> None:
    """onnxruntime's pool of integers, as between convolutions, takes no other."""
    text = """g (float[N, 3, 8, 8] x) => (float[N, 6, 4, 4] y) {
        a = Conv<pads = [1, 1, 1, 1]>(x, w)
        p = AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2]>(a)
        y = Conv(p, v)
    }"""
    path = graph(tmp_path, text, {"w": (8, 3, 3, 3), "v": (6, 8, 1, 1)})
    _, sqnr = apply(path, STATIC, x=normal(32, 3, 8, 8))
    assert sqnr > 30


def test_what_onnxruntime_does_not_run_in_float16_stays_in_float32(tmp_path: Path) -> None:
    """It loads a scatter that adds halves, and refuses to run it."""
    text = """g (float[8, 8] x, int64[8, 8] places) => (float[8, 6] y) {
        a = MatMul(x, w)
        b = Transpose(a)
        [sums] c = ScatterElements<axis = 1, reduction = "add">(b, places, b)
        d = Transpose(c)
        y = MatMul(d, v)
    }"""
    path = graph(tmp_path, text, {"w": (8, 8), "v": (8, 6)}, opset=18)
    places = np.random.default_rng(0).integers(0, 8, (32, 8))
    outcome, sqnr = apply(path, FLOAT16, x=normal(32, 8), places=places)
    assert reasons(outcome) == {
        "sums": "onnxruntime runs no ScatterElements of this form in float16"
    }
    assert len(outcome.layers) == 2
    assert sqnr > 40


def _typed(model: ir.Model) -> ir.Model:
    infer(model)
    return model


def _dies_on(before: str, after: str) -> Callable[[Path, Path, int], int | None]:
    """Return what runs graphs apart, and dies on halves that go from one operator to another."""

    def run(path: Path, _feeds: Path, _threads: int) -> int | None:
        nodes = _typed(load(path)).graph.all_nodes()
        makers = (v.producer() for n in nodes if n.op_type == after for v in n.inputs if v)
        found = [m for m in makers if m is not None and m.op_type == before]
        return None if any(m.outputs[0].dtype == ir.DataType.FLOAT16 for m in found) else 1

    return run


def test_what_ends_a_process_in_float16_is_found_apart_and_left_in_float32(tmp_path: Path) -> None:
    """onnxruntime 1.32 dies on torchvision's transformers, in a Transpose before a product."""
    text = """g (float[N, 8, 8] x) => (float[8, N, 6] y) {
        a = MatMul(x, u)
        [turned] b = Transpose<perm = [1, 0, 2]>(a)
        c = MatMul(b, v)
        d = Relu(c)
        [again] e = Transpose<perm = [0, 1, 2]>(d)
        y = MatMul(e, w)
    }"""
    path = graph(tmp_path, text, {"u": (8, 8), "v": (8, 8), "w": (8, 6)})
    model = load(path)
    name_nodes(model)
    example = {"x": normal(2, 8, 8)}
    context = Context(None, 0, 1, example=example, isolated_run=_dies_on("Transpose", "MatMul"))
    outcome = quantize(model, FLOAT16, context, lambda _: None)
    assert reasons(outcome).keys() == {"turned", "again"}
    assert "dies" in reasons(outcome)["turned"]
    assert len(outcome.layers) == 3
    untried = Context(None, 0, 1, example=example)
    outcome = quantize(model, FLOAT16, untried, lambda _: None)
    assert reasons(outcome)["turned"].endswith("cannot be tried here")
    assert len(outcome.layers) == 3


def test_what_dies_in_float32_too_is_no_matter_of_float16(tmp_path: Path) -> None:
    text = "g (float[N, 8] x) => (float[N, 6] y) { y = MatMul(x, w) }"
    model = load(graph(tmp_path, text, {"w": (8, 6)}))
    name_nodes(model)
    context = Context(None, 0, 1, example={"x": normal(2, 8)}, isolated_run=lambda *_: None)
    assert len(quantize(model, FLOAT16, context, lambda _: None).layers) == 1


def test_weights_that_are_in_float16_already_say_so(tmp_path: Path) -> None:
    text = """g (float16[N, 8] x) => (float16[N, 6] y) { [product] y = MatMul(x, w) }"""
    path = graph(tmp_path, text, {"w": (8, 6)})
    proto = onnx.load(path)
    array = onnx.numpy_helper.to_array(proto.graph.initializer[0]).astype(np.float16)
    proto.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(array, "w"))
    onnx.save(proto, path)
    outcome, _ = apply(path, FLOAT16, x=normal(32, 8).astype(np.float16))
    assert reasons(outcome) == {"product": "its weights are float16, not float32"}


def test_weights_inside_branches_are_integers_that_are_computed_with_in_float(
    tmp_path: Path,
) -> None:
    text = """g (float[N, 16] x, bool[1] c) => (float[N, 16] y) {
        a = MatMul(x, w)
        y = If (c) <
            then_branch = t () => (float[N, 16] p) { p = MatMul(a, v) },
            else_branch = e () => (float[N, 16] q) { q = Identity(a) }
        >
    }"""
    path = graph(tmp_path, text, {"w": (16, 16), "v": (16, 16)})
    outcome, sqnr = apply(path, STATIC, x=normal(8, 16), c=np.ones(8, bool))
    changes = [layer.change for layer in outcome.layers]
    assert ["computed in float" in change for change in changes] == [False, True]
    assert sqnr > 30


def test_activations_that_are_not_finite_leave_their_layer_in_float(tmp_path: Path) -> None:
    text = """g (float[N, 16] x) => (float[N, 8] y) {
        a = Log(x)
        y = MatMul(a, w)
    }"""
    path = graph(tmp_path, text, {"w": (16, 8)})
    outcome, _ = apply(path, STATIC, x=np.zeros((8, 16), np.float32))
    assert outcome.layers == []
    assert "not finite" in reasons(outcome)["MatMul_1"]


@pytest.mark.parametrize(
    "parameters", [STATIC, SIXTEEN_BITS, TRAINED], ids=["static", "16 bits", "qat"]
)
def test_a_bias_far_larger_than_the_products_survives(tmp_path: Path, parameters: Quantize) -> None:
    text = """g (float[N, 3, 6, 6] x) => (float[N, 4, 2, 2] z) {
        y = Conv(x, w, b)
        z = Conv(y, v)
    }"""
    path = graph(tmp_path, text, {"w": (8, 3, 3, 3), "b": (8,), "v": (4, 8, 3, 3)}, opset=21)
    proto = onnx.load(path)
    for tensor in proto.graph.initializer:
        if tensor.name == "v":
            continue
        factor = 1e6 if tensor.name == "b" else 1e-6
        array = onnx.numpy_helper.to_array(tensor) * np.float32(factor)
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    onnx.save(proto, path)
    _, sqnr = apply(path, parameters, x=normal(32, 3, 6, 6))
    assert sqnr > 40


def test_dynamic_mode_needs_a_newer_opset_and_says_so(tmp_path: Path) -> None:
    text = "g (float[N, 16] x) => (float[N, 8] y) { y = MatMul(x, w) }"
    path = graph(tmp_path, text, {"w": (16, 8)}, opset=9)
    with pytest.raises(StepFailed, match="opset 11"):
        apply(path, DYNAMIC, x=normal(8, 16))


def test_activations_of_four_bits_need_a_newer_opset_and_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "g (float[N, 16] x) => (float[N, 8] y) { y = MatMul(x, w) }"
    path = graph(tmp_path, text, {"w": (16, 8)}, opset=11)
    four = Quantize(mode="static", force=True, activations="uint4")
    apply(path, four, x=normal(8, 16))

    def refused(_model: ir.Model) -> int:
        raise ValueError

    monkeypatch.setattr(
        sys.modules["workers.compression.methods.quantize.opset"], "lift_opset", refused
    )
    with pytest.raises(StepFailed, match="opset 12"):
        apply(path, four, x=normal(8, 16))
    apply(path, STATIC, x=normal(8, 16))


@pytest.mark.parametrize(
    "parameters", [STATIC, STATIC.model_copy(update={"symmetric": True}), TRAINED]
)
def test_int8_activations_pass_transposes(tmp_path: Path, parameters: Quantize) -> None:
    """onnxruntime's own optimizer leaves such a graph of opset 21 invalid."""
    text = """g (float[N, 8, 6, 6] x) => (float[N, 6, 6, 8] y) {
        c = Conv(x, w, b)
        t = Transpose<perm = [0, 2, 3, 1]>(c)
        m = MatMul(t, v)
        r = Relu(m)
        y = MatMul(r, u)
    }"""
    weights = {"w": (8, 8, 1, 1), "b": (8,), "v": (8, 16), "u": (16, 8)}
    path = graph(tmp_path, text, weights, opset=21)
    signed = parameters.model_copy(update={"activations": "int8"})
    outcome, sqnr = apply(path, signed, x=normal(32, 8, 6, 6))
    assert len(outcome.layers) == 3
    assert sqnr > 25
    ort.InferenceSession(path.with_name("quantized.onnx"), providers=["CPUExecutionProvider"])
