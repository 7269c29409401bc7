"""Graphs whose layers are factorised: the share that goes, what is left alone, what is told."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from app.domain.percentages import percent
from app.domain.problems import StepFailed
from app.domain.steps import LowRank
from app.domain.steps.recover import Recover
from tests.workers import zoo
from tests.workers.intake import models
from workers.compression.graph import runtime, stats
from workers.compression.graph import shapes as graph_shapes
from workers.compression.graph.load import load, save
from workers.compression.graph.shapes import sizes_of
from workers.compression.measure import clock
from workers.compression.methods import saving
from workers.compression.methods.low_rank import budget, low_rank, sensitivity
from workers.compression.methods.low_rank.algebra import Array
from workers.compression.methods.low_rank.candidates import candidates
from workers.compression.methods.low_rank.layers import select
from workers.compression.methods.outcome import Outcome
from workers.compression.samples.context import Context, Samples
from workers.compression.samples.layout import Layout, whole

NETWORKS = ("mlp", "residual", "inverted_residual", "dense_concat", "convnext", "vit", "bert")
RNG = np.random.default_rng(7)

Feeds = dict[str, NDArray[Any]]


def _outputs(model: ir.Model, feeds: Feeds, directory: Path) -> list[NDArray[Any]]:
    path = directory / "graph.onnx"
    save(model, path)
    onnx.checker.check_model(str(path))
    return list(runtime.run(runtime.open_session(path), feeds).values())


def _feeds(name: str, batch: int) -> Feeds:
    return {key: tensor.numpy() for key, tensor in zoo.feeds(name, batch).items()}


def _context(name: str) -> Context:
    feeds = _feeds(name, 16)
    samples = Samples(feeds, None, range(16))
    example = {key: array[:1] for key, array in feeds.items()}
    return Context(train=samples, seed=0, threads=1, example=example)


def _sqnr(wanted: NDArray[Any], given: NDArray[Any]) -> float:
    return float(10 * np.log10((wanted**2).sum() / ((wanted - given) ** 2).sum()))


@pytest.mark.parametrize("name", NETWORKS)
def test_every_kind_of_network_loses_the_share_that_was_asked_for(
    name: str, tmp_path: Path
) -> None:
    model, context = zoo.graph(name), _context(name)
    before = stats.measure(model, sizes_of(model, context.example), context.example)
    wanted = _outputs(model, context.example, tmp_path)
    outcome = low_rank(model, LowRank(ratio=0.2), context, lambda _: None)
    sizes = sizes_of(outcome.model, context.example)
    after = stats.measure(outcome.model, sizes, context.example)
    assert after.macs <= 0.8 * before.macs
    assert outcome.layers
    given = _outputs(outcome.model, context.example, tmp_path)
    assert [array.shape for array in given] == [array.shape for array in wanted]


def test_what_data_tells_of_activations_makes_the_result_nearer(tmp_path: Path) -> None:
    nearness = {}
    for whiten in (True, False):
        model, context = zoo.graph("residual"), _context("residual")
        (wanted,) = _outputs(model, _feeds("residual", 4), tmp_path)
        parameters = LowRank(ratio=0.4, whiten=whiten, decomposition="svd")
        outcome = low_rank(model, parameters, context, lambda _: None)
        (given,) = _outputs(outcome.model, _feeds("residual", 4), tmp_path)
        nearness[whiten] = _sqnr(wanted, given)
    assert nearness[True] > nearness[False] + 1


def test_training_afterwards_makes_the_result_nearer(tmp_path: Path) -> None:
    nearness = []
    for recover in (None, Recover(epochs=10)):
        model, original = zoo.graph("residual"), tmp_path / "original.onnx"
        save(model, original)
        context = replace(_context("residual"), original=original)
        (wanted,) = _outputs(model, _feeds("residual", 16), tmp_path)
        parameters = LowRank(ratio=0.6, recover=recover)
        outcome = low_rank(model, parameters, context, lambda _: None)
        (given,) = _outputs(outcome.model, _feeds("residual", 16), tmp_path)
        nearness.append(_sqnr(wanted, given))
    assert nearness[1] > nearness[0] + 3


def _one_layer(
    op: str, weight: Array, attributes: dict[str, Any], shape: list[int], path: Path
) -> ir.Model:
    bias = onnx.numpy_helper.from_array(
        RNG.standard_normal(max(len(weight), 16)).astype(np.float32), "b"
    )
    inputs = ["x", "w"] if op == "MatMul" else ["x", "w", "b"]
    node = onnx.helper.make_node(op, inputs, ["y"], name="layer", **attributes)
    given = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, dims)
        for name, dims in (("x", shape), ("y", None))
    ]
    weights = [onnx.numpy_helper.from_array(weight.astype(np.float32), "w"), bias]
    graph = onnx.helper.make_graph([node], "g", given[:1], given[1:], weights[: len(inputs) - 1])
    opsets = [onnx.helper.make_opsetid("", 21)]
    inferred = onnx.shape_inference.infer_shapes(
        onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
    )
    onnx.save(inferred, path)
    return load(path)


@pytest.mark.parametrize(
    ("op", "shape", "attributes", "given"),
    [
        (
            "Conv",
            (16, 12, 3, 3),
            {"dilations": [2, 1], "strides": [1, 2], "pads": [1, 0, 2, 1]},
            [1, 12, 9, 8],
        ),
        ("Conv", (16, 12, 3, 3), {"strides": [2, 1], "auto_pad": "SAME_UPPER"}, [1, 12, 9, 8]),
        ("Conv", (16, 12, 5), {"pads": [2, 2]}, [1, 12, 30]),
        ("Conv", (16, 12, 1, 1), {"strides": [2, 2]}, [1, 12, 9, 8]),
        ("Gemm", (16, 12), {"transB": 1, "alpha": 0.5, "beta": 2.0}, [3, 12]),
        ("Gemm", (12, 16), {}, [3, 12]),
        ("MatMul", (12, 16), {}, [2, 5, 12]),
    ],
)
@pytest.mark.parametrize("decomposition", ["svd", "tucker2", "spatial_svd"])
@pytest.mark.parametrize("data", [True, False])
def test_a_layer_of_low_rank_is_found_out_and_nothing_is_lost(
    op: str, shape: tuple[int, ...], attributes: dict[str, Any], given: list[int],
    decomposition: str, data: bool, tmp_path: Path,
) -> None:  # fmt: skip
    """A weight that is a sum of two separable kernels comes back as exactly that."""
    axes = "abcd"[: len(shape)]
    parts = [RNG.standard_normal((size, 2)) for size in shape]
    weight = np.einsum(",".join(f"{axis}r" for axis in axes) + f"->{axes}", *parts)
    model = _one_layer(op, weight, attributes, given, tmp_path / "layer.onnx")
    feeds = {"x": RNG.standard_normal(given).astype(np.float32)}
    wanted = _outputs(model, feeds, tmp_path)
    rows = Samples({"x": feeds["x"][None]}, None, [0], whole(feeds))
    context = Context(train=rows if data else None, seed=0, threads=1, example=feeds)
    parameters = LowRank.model_validate({"decomposition": decomposition, "energy": 0.999999})
    outcome = low_rank(model, parameters, context, lambda _: None)
    assert [layer.node for layer in outcome.layers] == ["layer"]
    for a, b in zip(wanted, _outputs(outcome.model, feeds, tmp_path), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-3 * np.abs(a).max())


def test_beyond_a_budget_that_cannot_be_met_the_most_is_saved_and_that_is_said() -> None:
    model, context = zoo.graph("mlp"), _context("mlp")
    outcome = low_rank(model.clone(), LowRank(ratio=0.99), context, lambda _: None)
    assert outcome.layers
    [missed] = [skipped for skipped in outcome.skipped if skipped.node == saving.WHOLE]
    assert missed.reason.startswith("99 % of the macs should go, and ")
    sizes = sizes_of(model, context.example)
    before, after = (
        stats.measure(each, sizes, context.example).macs for each in (model, outcome.model)
    )
    assert f"can give {percent(1 - after / before)} at most" in missed.reason


def test_layers_named_in_ignore_are_untouched() -> None:
    untouched = low_rank(zoo.graph("mlp"), LowRank(ignore=["*"]), _context("mlp"), lambda _: None)
    assert untouched.layers == []
    assert [skipped.reason for skipped in untouched.skipped] == ["named in 'ignore'"] * 3


@pytest.mark.parametrize(
    ("node", "constants", "reason"),
    [
        ("MatMul (w, x)", {"w": (16, 16)}, "its weight is the left operand"),
        ("Gemm (x, w, b)", {"w": (16, 16), "b": (16, 1)}, "not a vector of its outputs"),
    ],
)
def test_what_is_no_layer_with_a_bias_for_each_output_is_named(
    node: str, constants: dict[str, tuple[int, ...]], reason: str
) -> None:
    """A bias of a column is one for each row, also where there are as many rows as outputs."""
    head = '<ir_version: 10, opset_import: ["": 21]> g (float[16, 16] x) => (float[16, 16] y)'
    proto = onnx.parser.parse_model(f"{head} {{ [layer] y = {node} }}")
    proto.graph.initializer.extend(
        models.tensor(name, RNG.standard_normal(shape).astype(np.float32))
        for name, shape in constants.items()
    )
    context = Context(None, seed=0, threads=1, example={"x": np.ones((16, 16), np.float32)})
    outcome = low_rank(ir.serde.deserialize_model(proto), LowRank(), context, lambda _: None)
    assert outcome.layers == []
    assert [reason in skipped.reason for skipped in outcome.skipped] == [True]


def test_shapes_behind_an_operator_of_another_domain_are_observed() -> None:
    """Shape inference ends at scikit-learn's Scaler."""
    nodes = [
        onnx.helper.make_node(
            "Scaler", ["x"], ["s"], domain="ai.onnx.ml", offset=[0.0], scale=[2.0]
        ),
        onnx.helper.make_node("MatMul", ["s", "w"], ["y"], "layer"),
    ]
    weight = models.tensor("w", RNG.standard_normal((64, 64)).astype(np.float32))
    proto = models.model(
        nodes,
        [models.value("x", "N", 64)],
        [models.value("y", "N", 64)],
        [weight],
        imports=[onnx.helper.make_opsetid("ai.onnx.ml", 3)],
    )
    context = Context(None, seed=0, threads=1, example={"x": np.ones((1, 64), np.float32)})
    graph = ir.serde.deserialize_model(proto)
    outcome = low_rank(graph, LowRank(), context, lambda _: None)
    assert [layer.node for layer in outcome.layers] == ["layer"]


_BRANCHES = """
<ir_version: 10, opset_import: ["": 21]> g (float[BATCH, 32] x) => (float[BATCH, 32] y) {
  [loud] a = MatMul (x, wa)
  [quiet] b = MatMul (x, wb)
  c = Mul (b, little)
  y = Add (a, c)
}
"""


def _branches(path: Path, batch: int | str = "batch") -> ir.Model:
    """Return two layers alike, of which one adds a hundredth of what the other does."""
    model = onnx.parser.parse_model(_BRANCHES.replace("BATCH", str(batch)))
    arrays = {name: RNG.standard_normal((32, 32)) for name in ("wa", "wb")}
    for name, array in {**arrays, "little": np.array(0.01)}.items():
        tensor = onnx.numpy_helper.from_array(array.astype(np.float32), name)
        model.graph.initializer.append(tensor)
    onnx.save(onnx.shape_inference.infer_shapes(model), path)
    return load(path)


def _rows(count: int = 64, batch: int | None = None) -> Context:
    feeds = {"x": RNG.standard_normal((count, 32)).astype(np.float32)}
    layout = Layout(size=batch or 1, free=batch is None)
    samples = Samples(feeds, None, range(count), layout)
    example = samples.first_run()
    return Context(train=samples, seed=0, threads=1, example=example, layout=layout)


@pytest.mark.parametrize("batch", [None, 8])
def test_the_layer_that_hardly_matters_to_the_outputs_gives_way(
    batch: int | None, tmp_path: Path
) -> None:
    model = _branches(tmp_path / "branches.onnx", batch or "batch")
    context = _rows(batch=batch)
    outcome = low_rank(model.clone(), LowRank(ratio=0.25), context, lambda _: None)
    assert [layer.node for layer in outcome.layers] == ["quiet"]
    sizes = sizes_of(outcome.model, context.example)
    macs = stats.measure(outcome.model, sizes, context.example, context.layout.size).macs
    assert macs <= 0.75 * 2 * 32 * 32
    again = low_rank(model.clone(), LowRank(ratio=0.25), context, lambda _: None)
    assert again.layers == outcome.layers
    alike = low_rank(model, LowRank(ratio=0.4, rank="ratio"), context, lambda _: None)
    assert len(alike.layers) == 2


def test_what_the_outputs_are_said_to_lose_they_lose(tmp_path: Path) -> None:
    """To first order, and these outputs are linear in each layer: only directions are random."""
    model, context = _branches(tmp_path / "branches.onnx"), _rows()
    assert context.train is not None
    shapes = graph_shapes.concrete(model, sizes_of(model, context.example))
    layers, _ = select(model, LowRank(), shapes, context.layout.size)
    ways = [candidates(layer, LowRank(), None) for layer in layers]
    wanted = _outputs(model, dict(context.train.arrays), tmp_path)[0]
    for index, each in enumerate(
        sensitivity.weighed(model, layers, ways, context.train, context, lambda _: None)
    ):
        smaller, chosen = model.clone(), [None] * len(layers)
        budget.write(smaller, layers, [*chosen[:index], each[0], *chosen[index + 1 :]])
        (given,) = _outputs(smaller, dict(context.train.arrays), tmp_path)
        lost = np.square(wanted - given).mean() / wanted.var()
        assert each[0].loss == pytest.approx(lost, rel=0.5)


def test_without_data_or_gradients_layers_are_compared_by_their_own_errors(tmp_path: Path) -> None:
    model, context = _branches(tmp_path / "branches.onnx"), _rows()
    blind = replace(context, train=None)
    plain = low_rank(model.clone(), LowRank(ratio=0.4), blind, lambda _: None)
    assert len(plain.layers) == 2
    asked = LowRank(ratio=0.4, rank="sensitivity")
    with pytest.raises(StepFailed, match="dataset"):
        low_rank(model.clone(), asked, blind, lambda _: None)
    node = ir.node("ArgMax", [model.graph.outputs[0]], {"axis": 1})
    node.outputs[0].name, node.outputs[0].type = "best", ir.TensorType(ir.DataType.INT64)
    node.outputs[0].shape = ir.Shape(("batch", 1))
    model.graph.append(node)
    model.graph.outputs[0] = node.outputs[0]
    with pytest.raises(StepFailed, match="way to an output of floats"):
        low_rank(model.clone(), asked, context, lambda _: None)
    fallen = low_rank(model, LowRank(ratio=0.4), context, lambda _: None)
    assert len(fallen.layers) == 2


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """A clock that counts: a nanosecond a multiply-accumulate, and a price for each layer."""
    price = {"layer": 0.0}

    def shortest(model: ir.Model, feeds: Feeds, _threads: int) -> float:
        layers = sum(node.op_type == "Conv" for node in model.graph)
        return 1e-6 * (stats.macs_of_one(model, feeds, 1) + layers * price["layer"])

    def time_saved(first: ir.Model, second: ir.Model, feeds: Feeds, threads: int) -> float:
        return 1 - shortest(second, feeds, threads) / shortest(first, feeds, threads)

    monkeypatch.setattr(clock, "shortest", shortest)
    monkeypatch.setattr(budget, "shortest", shortest)
    monkeypatch.setattr(saving, "time_saved", time_saved)
    return price


def _timed(context: Context, tmp_path: Path) -> tuple[Outcome, dict[str, float]]:
    """Ask for 40 % of the time of one convolution; return what was told as well."""
    told: dict[str, float] = {}
    weight = RNG.standard_normal((64, 64, 3, 3))
    model = _one_layer("Conv", weight, {"pads": [1] * 4}, [1, 64, 8, 8], tmp_path / "l.onnx")
    tell = replace(context, tell=lambda name, value, _: told.update({name: value}))
    return low_rank(model, LowRank(ratio=0.4, of="latency"), tell, lambda _: None), told


def test_asked_for_time_a_layer_that_gets_faster_is_replaced(
    counting: dict[str, float], tmp_path: Path
) -> None:
    """What was saved is measured on the whole graph, and told."""
    feeds = {"x": RNG.standard_normal((1, 64, 8, 8)).astype(np.float32)}
    outcome, told = _timed(Context(None, seed=0, threads=1, example=feeds), tmp_path)
    assert [layer.node for layer in outcome.layers] == ["layer"]
    assert 0.39 <= told["latency_saved"] < 0.46
    assert not outcome.skipped


def test_asked_for_time_a_layer_that_gets_slower_stays(
    counting: dict[str, float], tmp_path: Path
) -> None:
    """Fewer multiplications in more layers may take longer."""
    counting["layer"] = 1e9
    feeds = {"x": RNG.standard_normal((1, 64, 8, 8)).astype(np.float32)}
    outcome, _ = _timed(Context(None, seed=0, threads=1, example=feeds), tmp_path)
    assert outcome.layers == []
    assert "40 % of the latency should go, and the layers can give 0 % at most" in [
        skipped.reason for skipped in outcome.skipped
    ]


def test_a_transposed_convolution_is_left_alone_by_name() -> None:
    context = _context("encoder_decoder")
    outcome = low_rank(zoo.graph("encoder_decoder"), LowRank(ratio=0.05), context, lambda _: None)
    assert "ConvTranspose is not factorised" in {skip.reason for skip in outcome.skipped}


def test_what_is_left_alone_is_named_with_the_reason() -> None:
    context = _context("inverted_residual")
    model = zoo.graph("inverted_residual")
    outcome = low_rank(model, LowRank(ratio=0.05), context, lambda _: None)
    reasons = {skip.reason for skip in outcome.skipped}
    assert any("depthwise" in reason for reason in reasons)
    ignored = low_rank(
        zoo.graph("mlp"), LowRank(energy=0.5, ignore=["*"]), _context("mlp"), lambda _: None
    )
    assert {skip.reason for skip in ignored.skipped} == {"named in 'ignore'"}
    assert not ignored.layers
