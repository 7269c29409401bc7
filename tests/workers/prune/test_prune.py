"""Pruning: what is asked for is what comes out, and the rest is said."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from pydantic import ValidationError

from app.domain.steps import Prune, Quantize
from tests.workers import zoo
from tests.workers.digits import Trained
from tests.workers.intake import models
from workers.compression.graph import stats
from workers.compression.graph.editor import constant
from workers.compression.graph.load import load
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.prune import prune
from workers.compression.methods.quantize import quantize
from workers.compression.samples.context import Context


def _figures(model: ir.Model) -> stats.Stats:
    return stats.measure(model, {"batch": 1, "length": 16})


def _without_data(name: str, **parameters: Any) -> tuple[stats.Stats, stats.Stats, Outcome]:
    model = zoo.graph(name)
    context = Context(train=None, seed=0, threads=1)
    outcome = prune(model.clone(), Prune(**parameters), context, lambda _: None)
    return _figures(model), _figures(outcome.model), outcome


@pytest.mark.parametrize("name", ["residual", "dense_concat", "inverted_residual"])
@pytest.mark.parametrize("of", ["macs", "parameters"])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_the_asked_share_is_removed_and_little_more(name: str, of: str, scope: str) -> None:
    before, after, outcome = _without_data(name, ratio=0.5, of=of, scope=scope)
    assert 0.3 < getattr(after, of) / getattr(before, of) <= 0.5
    assert all("channels" in layer.change or "reads" in layer.change for layer in outcome.layers)


def test_few_channels_are_cut_in_smaller_multiples_unless_one_is_named() -> None:
    before, near, _ = _without_data("residual", ratio=0.2, scope="layer")
    _, far, _ = _without_data("residual", ratio=0.2, scope="layer", multiple=8)
    assert 0.7 <= near.macs / before.macs <= 0.8
    assert far.macs / before.macs < 0.7


@pytest.mark.parametrize("multiple", [None, 4, 16])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_layers_keep_a_multiple_of_channels(multiple: int | None, scope: str) -> None:
    """Layers of 16 channels are too narrow for two times 16: they keep a multiple of 8."""
    weights = zoo.graph("residual").graph.initializers.items()
    shapes = {name: value.shape.numpy() for name, value in weights if value.shape is not None}
    _, _, outcome = _without_data("residual", ratio=0.5, scope=scope, multiple=multiple)
    assert outcome.kept
    for name, axes in outcome.kept.items():
        for axis, indices in axes.items():
            narrow = multiple == 16 and shapes[name][axis] < 32
            assert len(indices) % (8 if narrow else multiple or 8) == 0, name


@pytest.mark.parametrize("criterion", ["magnitude", "lamp", "bn_scale", "fpgm", "random"])
def test_criteria_of_weights_need_no_data(criterion: str) -> None:
    before, after, _ = _without_data("residual", ratio=0.4, criterion=criterion)
    assert after.macs <= 0.6 * before.macs


def test_more_than_can_be_removed_is_said() -> None:
    _, after, outcome = _without_data("vit", ratio=0.95)
    assert after.macs
    [reason] = [each.reason for each in outcome.skipped if each.node == "the whole graph"]
    assert reason.startswith("95 % of the macs should go, and ")


def test_what_is_ignored_or_cannot_go_is_named_with_its_reason(trained: Trained) -> None:
    names = [n.name for n in load(trained.path).graph if n.op_type == "Conv"]
    outcome = trained.prune(data=False, ratio=0.3, ignore=[names[1]])
    reasons = {each.node: each.reason for each in outcome.skipped}
    assert reasons[str(names[1])] == "named in 'ignore'"
    assert "it is an output of the graph" in reasons.values()
    assert str(names[1]) not in [layer.node for layer in outcome.layers]


@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize("criterion", ["taylor", "hessian", "apoz"])
def test_criteria_of_data_keep_more_than_chance_does(
    trained: Trained, tmp_path: Path, criterion: str, labels: bool
) -> None:
    chosen = trained.prune(labels=labels, ratio=0.7, criterion=criterion)
    chance = trained.prune(ratio=0.7, criterion="random")
    assert trained.accuracy(chosen.model, tmp_path) > trained.accuracy(chance.model, tmp_path)


def test_without_a_wish_data_decides_where_there_is_some(trained: Trained, tmp_path: Path) -> None:
    plain, known = trained.prune(data=False, ratio=0.7), trained.prune(ratio=0.7)
    assert _figures(plain.model).macs <= 0.3 * _figures(load(trained.path)).macs
    assert trained.accuracy(known.model, tmp_path) > trained.accuracy(plain.model, tmp_path)


def test_a_graph_without_a_channel_to_remove_is_returned_as_it_was() -> None:
    model = ir.from_onnx_text("""
        <ir_version: 10, opset_import: ["" : 21]>
        small (float[N, 2] x) => (float[N, 2] y)
        <float[2, 2] w = {1.0, 2.0, 3.0, 4.0}> { y = MatMul(x, w) }
    """)
    outcome = prune(model, Prune(), Context(None, seed=0, threads=1), lambda _: None)
    assert outcome.layers == []
    assert [each.reason for each in outcome.skipped] == [
        "it is an output of the graph",
        "no channel of it can be removed: see its layers",
    ]


def test_half_precision_weights_are_cut_too(trained: Trained, tmp_path: Path) -> None:
    context = Context(trained.train, seed=0, threads=1, original=trained.path)
    half = quantize(load(trained.path), Quantize(mode="float16"), context, lambda _: None).model
    outcome = prune(half.clone(), Prune(ratio=0.4), context, lambda _: None)
    assert _figures(outcome.model).macs <= 0.6 * _figures(half).macs
    assert trained.accuracy(outcome.model, tmp_path) > 0.5


def test_least_squares_bring_back_most_of_the_quality_without_training(
    trained: Trained, tmp_path: Path
) -> None:
    whole = trained.accuracy(load(trained.path), tmp_path)
    plain = trained.accuracy(trained.prune(ratio=0.6, reconstruct=False).model, tmp_path)
    fitted = trained.accuracy(trained.prune(ratio=0.6, labels=False).model, tmp_path)
    assert fitted > plain
    assert fitted > whole - 0.05


@pytest.mark.parametrize("schedule", ["one_shot", "iterative", "polynomial"])
def test_training_in_between_and_afterwards_recovers(
    trained: Trained, tmp_path: Path, schedule: str
) -> None:
    parameters: dict[str, Any] = {"ratio": 0.8, "criterion": "random"}
    untrained = trained.accuracy(trained.prune(**parameters).model, tmp_path)
    recover = {"epochs": 9, "minutes": 1.0}
    outcome = trained.prune(**parameters, schedule=schedule, iterations=3, recover=recover)
    assert _figures(outcome.model).macs <= 0.21 * _figures(load(trained.path)).macs
    assert trained.accuracy(outcome.model, tmp_path) > untrained


def test_latency_is_measured_and_told(trained: Trained) -> None:
    told: list[float] = []
    context = Context(None, seed=0, threads=1, tell=lambda _name, value, _: told.append(value))
    step = Prune(ratio=0.3, of="latency")
    outcome = prune(load(trained.path), step, context, lambda _: None)
    assert told
    assert _figures(outcome.model).macs < _figures(load(trained.path)).macs
    said = any(each.node == "the whole graph" for each in outcome.skipped)
    assert said or max(told) >= 0.28


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("criterion", ["magnitude", "lamp", "random", "taylor", "hessian"])
def test_single_weights_are_zeroed_to_the_asked_share(
    trained: Trained, scope: str, criterion: str
) -> None:
    outcome = trained.prune(
        granularity="unstructured", sparsity=0.7, scope=scope, criterion=criterion
    )
    weights = [
        constant(v) for v in outcome.model.graph.initializers.values() if len(v.shape or ()) > 1
    ]
    zeros = sum((w == 0).sum() for w in weights) / sum(w.size for w in weights)
    assert abs(zeros - 0.7) < 0.01
    assert "% of its weights are zero" in outcome.layers[0].change


def test_n_of_m_neighbouring_inputs_stay(trained: Trained) -> None:
    outcome = trained.prune(granularity="n:m", n=1, m=4)
    convolutions = [n for n in outcome.model.graph if n.op_type == "Conv"]
    weight = convolutions[1].inputs[1]
    assert weight is not None
    array = constant(weight)
    groups = array.reshape(array.shape[0], -1, 4, *array.shape[2:])
    assert (np.count_nonzero(groups, axis=2) == 1).all()
    assert "fewer than the 4 of a group" in outcome.skipped[0].reason


def test_what_is_not_zero_is_fitted_where_there_is_data(trained: Trained, tmp_path: Path) -> None:
    parameters: dict[str, Any] = {"granularity": "unstructured", "sparsity": 0.8}
    plain = trained.accuracy(trained.prune(**parameters, data=False).model, tmp_path)
    fitted = trained.prune(**parameters, labels=False)
    assert trained.accuracy(fitted.model, tmp_path) > plain
    whole = trained.accuracy(load(trained.path), tmp_path)
    assert trained.accuracy(fitted.model, tmp_path) > whole - 0.03
    figures = _figures(fitted.model)
    assert figures.nonzero_parameters < 0.22 * figures.parameters


def test_blocks_go_as_a_whole(trained: Trained) -> None:
    outcome = trained.prune(granularity="block", block=[8, 2], sparsity=0.5, scope="layer")
    weight = [n for n in outcome.model.graph if n.op_type == "Conv"][1].inputs[1]
    assert weight is not None
    array = constant(weight)
    blocks = array.reshape(4, 8, 16, 2, 9)
    empty = (blocks == 0).all(axis=(1, 3, 4))
    assert empty.mean() == 0.5
    assert (blocks[empty.nonzero()[0], :, empty.nonzero()[1]] == 0).all()


def test_zeros_grow_while_training_and_stay(trained: Trained, tmp_path: Path) -> None:
    recover = {"epochs": 12, "minutes": 1.0}
    outcome = trained.prune(
        granularity="unstructured", schedule="polynomial", final_sparsity=0.9, recover=recover
    )
    figures = _figures(outcome.model)
    assert figures.nonzero_parameters < 0.12 * figures.parameters
    assert trained.accuracy(outcome.model, tmp_path) > 0.75


def test_layers_inside_branches_are_left_alone_and_say_so() -> None:
    def side(name: str) -> onnx.GraphProto:
        product = onnx.helper.make_node("MatMul", ["x", f"{name}_w"], [f"{name}_y"], name)
        weight = models.tensor(f"{name}_w", np.ones((8, 4), np.float32))
        output = models.value(f"{name}_y", 2, 4)
        return onnx.helper.make_graph([product], name, [], [output], [weight])

    branches = {"then_branch": side("then"), "else_branch": side("else")}
    nodes = [
        onnx.helper.make_node("ReduceMax", ["x"], ["m"], keepdims=0),
        onnx.helper.make_node("Cast", ["m"], ["c"], to=onnx.TensorProto.BOOL),
        onnx.helper.make_node("If", ["c"], ["y"], "choice", **branches),
    ]
    proto = models.model(nodes, [models.value("x", 2, 8)], [models.value("y", 2, 4)])
    context = Context(None, seed=0, threads=1)
    outcome = prune(ir.serde.deserialize_model(proto), Prune(), context, lambda _: None)
    inside = {each.node for each in outcome.skipped if "inside a branch" in each.reason}
    assert inside == {"then", "else"}
    parameters, graph = Prune(granularity="unstructured"), ir.serde.deserialize_model(proto)
    outcome = prune(graph, parameters, context, lambda _: None)
    inside = {each.node for each in outcome.skipped if "inside a branch" in each.reason}
    assert inside == {"then", "else"}
    assert outcome.layers == []


@pytest.mark.parametrize("granularity", ["unstructured", "n:m", "block"])
def test_recurrent_layers_get_zeros_too(granularity: str) -> None:
    random = np.random.default_rng(0)
    shapes = {"w": (2, 32, 16), "r": (2, 32, 8), "b": (2, 64)}
    weights = [
        models.tensor(name, random.standard_normal(shape, dtype=np.float32))
        for name, shape in shapes.items()
    ]
    node = onnx.helper.make_node(
        "LSTM", ["x", "w", "r", "b"], ["y"], "lstm", hidden_size=8, direction="bidirectional"
    )
    proto = models.model(
        [node], [models.value("x", 5, "N", 16)], [models.value("y", 5, 2, "N", 8)], weights
    )
    wish = {"granularity": granularity, "block": [4, 4], "scope": "layer"}
    parameters = Prune.model_validate(wish)
    context = Context(None, seed=0, threads=1)
    graph = ir.serde.deserialize_model(proto)
    outcome = prune(graph, parameters, context, lambda _: None)
    changes = [layer.change for layer in outcome.layers]
    assert changes == ["50% of its weights are zero", "50% of its recurrent weights are zero"]
    kept = constant(outcome.model.graph.initializers["r"]) != 0
    if granularity == "n:m":
        assert (kept.reshape(2, 32, 2, 4).sum(axis=-1) == 2).all()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"granularity": "n:m", "n": 4, "m": 4}, "n must be less than m"),
        ({"schedule": "iterative"}, "add 'recover'"),
        ({"granularity": "block", "criterion": "fpgm"}, "compares whole channels"),
        ({"granularity": "n:m", "schedule": "iterative"}, "from the first"),
        ({"criterion": "obc"}, "use 'hessian' for channels"),
        ({"granularity": "block", "criterion": "obc", "reconstruct": False}, "fits what it keeps"),
        ({"begin": 0.8, "end": 0.5}, "'begin' must be less than 'end'"),
    ],
)
def test_nonsense_is_refused_with_what_to_do(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Prune(**wrong)


def test_the_same_seed_gives_the_same_bytes(trained: Trained) -> None:
    first, second = (trained.prune(ratio=0.5, criterion="taylor").model for _ in range(2))
    for name, value in first.graph.initializers.items():
        assert np.array_equal(constant(value), constant(second.graph.initializers[name]))
