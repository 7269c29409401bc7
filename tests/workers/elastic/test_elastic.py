"""Supernets: what is trained together is what is taken out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch

from app.domain.problems import StepFailed
from app.domain.steps import Subnet, Supernet
from app.domain.steps.recover import Recover
from tests.workers import zoo
from tests.workers.digits import Trained
from workers.compression.graph import runtime, stats
from workers.compression.graph.editor import constant, name_nodes
from workers.compression.graph.fingerprint import fingerprint
from workers.compression.graph.load import load
from workers.compression.learning import episodes
from workers.compression.methods.elastic import subnet, supernet
from workers.compression.methods.elastic.networks import Network
from workers.compression.methods.elastic.order import in_order
from workers.compression.methods.elastic.shared import Shared, share
from workers.compression.samples.context import Context, Samples


@pytest.fixture(autouse=True)
def few_episodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(episodes, "EPISODES", 16)


def context_of(net: Trained, samples: int = 900) -> Context:
    train = net.train.take(net.train.indices[:samples])
    return Context(
        train, seed=0, threads=1, original=net.path, example=train.first_run(), layout=train.layout
    )


def graph_of(net: Trained) -> ir.Model:
    model = load(net.path)
    name_nodes(model)
    return model


def answers(model: ir.Model, net: Trained) -> np.ndarray:
    rows = list(net.held_out.indices[:64])
    feeds = net.held_out.feeds(rows)
    return runtime.run(runtime.session_of(model), feeds)["logits"]


def masked_answers(shared: Shared, network: Network, net: Trained) -> np.ndarray:
    rows = list(net.held_out.indices[:64])
    feeds = {name: torch.from_numpy(array) for name, array in net.held_out.feeds(rows).items()}
    with torch.no_grad():
        return shared.masked.runs(network)(feeds)["logits"].numpy()


def without_batches(net: Trained) -> Shared:
    """Few samples: networks are not normalised by batches, so that answers can be compared."""
    return share(graph_of(net), context_of(net, 8))


def test_the_largest_network_is_the_original(trained: Trained) -> None:
    shared = without_batches(trained)
    largest = masked_answers(shared, shared.masked.networks.largest, trained)
    np.testing.assert_allclose(largest, answers(load(trained.path), trained), atol=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_a_network_that_is_taken_out_answers_as_the_masked_graph(
    trained: Trained, seed: int
) -> None:
    shared = without_batches(trained)
    networks = shared.masked.networks
    assert networks.stages == [[networks.blocks[0].name]]
    network = networks.any(np.random.default_rng(seed))
    taken = networks.take(graph_of(trained), network)
    expected = masked_answers(shared, network, trained)
    np.testing.assert_allclose(answers(taken, trained), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("residual", [1, 1]),
        ("inverted_residual", [1, 1]),
        ("convnext", [2, 1]),
        ("vit", [4]),
        ("bert", [2]),
        ("dense_concat", []),
    ],
)
def test_networks_of_any_graph_answer_as_the_masked_graph(name: str, stages: list[int]) -> None:
    model = zoo.graph(name)
    name_nodes(model)
    feeds = {key: each.numpy() for key, each in zoo.feeds(name, 8).items()}
    samples = Samples(feeds, None, range(8))
    context = Context(samples, 0, 1, example=samples.first_run(), layout=samples.layout)
    shared = share(model, context)
    networks = shared.masked.networks
    assert [len(each) for each in networks.stages] == stages
    assert len(networks.groups) > 1
    tensors = {key: torch.from_numpy(each) for key, each in feeds.items()}
    for network in (
        networks.largest,
        networks.smallest,
        networks.any(np.random.default_rng(0)),
        networks.any(np.random.default_rng(1)),
    ):
        taken = networks.take(model.clone(), network)
        with torch.no_grad():
            expected = shared.masked.runs(network)(tensors)["output"].numpy()
        given = runtime.run(runtime.session_of(taken), feeds)["output"]
        np.testing.assert_allclose(given, expected, atol=1e-4)


def test_a_block_that_is_left_out_is_gone(trained: Trained) -> None:
    shared = without_batches(trained)
    networks = shared.masked.networks
    network = replace(networks.largest, dropped=networks.smallest.dropped)
    taken = networks.take(graph_of(trained), network)
    assert len([node for node in taken.graph if node.op_type == "Conv"]) == 2
    cost = networks.cost("macs")
    assert cost(network) == stats.measure(taken, {"batch": 1}).macs
    np.testing.assert_allclose(
        answers(taken, trained), masked_answers(shared, network, trained), atol=1e-4
    )


def test_channels_are_put_in_order_and_the_answers_stay(trained: Trained) -> None:
    model, networks = graph_of(trained), without_batches(trained).masked.networks
    scores = np.random.default_rng(0).random(networks.analysis.units)
    ordered = in_order(model, networks.analysis, scores, networks.survey.trials[0])
    assert fingerprint(ordered) != fingerprint(model)
    np.testing.assert_allclose(answers(ordered, trained), answers(model, trained), atol=1e-4)


def made(net: Trained, epochs: int, samples: int = 900) -> tuple[ir.Model, ir.Model]:
    """A supernet, and a network of a third of its work."""
    context = context_of(net, samples)
    step = Supernet(recover=Recover(epochs=epochs, learning_rate=1e-3))
    whole = supernet(graph_of(net), step, context, lambda _: None).model
    return whole, subnet(whole.clone(), Subnet(ratio=0.65), context, lambda _: None).model


def test_a_network_from_a_trained_supernet_needs_no_training(
    trained: Trained, tmp_path: Path
) -> None:
    whole, smaller = made(trained, 5)
    macs = stats.measure(load(trained.path), {"batch": 1}).macs
    assert stats.measure(whole, {"batch": 1}).macs == macs
    assert stats.measure(smaller, {"batch": 1}).macs <= 0.35 * macs
    before = trained.accuracy(load(trained.path), tmp_path)
    assert trained.accuracy(whole, tmp_path) > before - 0.03
    assert trained.accuracy(smaller, tmp_path) > before - 0.06
    untrained = subnet(graph_of(trained), Subnet(ratio=0.65), context_of(trained), lambda _: None)
    assert trained.accuracy(smaller, tmp_path) > trained.accuracy(untrained.model, tmp_path) + 0.1


def test_what_the_supernet_left_alone_keeps_its_channels(trained: Trained) -> None:
    model = graph_of(trained)
    name = next(str(node.name) for node in model.graph if node.op_type == "Conv")

    def channels(graph: ir.Model) -> int:
        weight = next(node.inputs[1] for node in graph.graph if node.name == name)
        assert weight is not None
        return len(constant(weight))

    context = context_of(trained, 8)
    alone = replace(context, earlier=[Supernet(ignore=[name])])
    narrow, kept = (
        subnet(graph_of(trained), Subnet(ratio=0.65), each, lambda _: None).model
        for each in (context, alone)
    )
    assert channels(narrow) < channels(model)
    assert channels(kept) == channels(model)


@pytest.mark.parametrize("multiple", [None, 16])
def test_a_network_keeps_a_multiple_of_channels(trained: Trained, multiple: int | None) -> None:
    step = Subnet(ratio=0.45, multiple=multiple)
    taken = subnet(graph_of(trained), step, context_of(trained, 8), lambda _: None)
    widths = [len(indices) for axes in taken.kept.values() for indices in axes.values()]
    assert any(width < 32 for width in widths)
    assert all(width % (multiple or 8) == 0 for width in widths)


def test_the_same_seed_makes_the_same(trained: Trained) -> None:
    first, second = ([fingerprint(each) for each in made(trained, 1, 128)] for _ in range(2))
    assert first == second


def test_a_supernet_needs_samples(trained: Trained) -> None:
    context = replace(context_of(trained), train=None)
    with pytest.raises(StepFailed, match="dataset"):
        subnet(graph_of(trained), Subnet(), context, lambda _: None)
