"""Networks that are built for a task: they read and answer what the graph did, and can be trained.

Each is looked at in onnxruntime and in the executor.
"""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from torch import nn

from app.domain.problems import StepFailed
from tests.workers import zoo
from workers.compression.architectures import ARCHITECTURES, Interface, interface_of
from workers.compression.executor import build
from workers.compression.graph import runtime
from workers.compression.graph.load import save

IMAGES = ("mlp", "mobilenet_v2", "mobilenet_v3", "resnet_cifar", "shufflenet_v2", "transformer")
CASES = [*((name, "residual") for name in IMAGES), ("mlp", "mlp"), ("transformer", "bert")]


def interface(net: str) -> Interface:
    shapes = {name: (1, *value.shape[1:]) for name, value in zoo.feeds(net).items()}
    model = zoo.graph(net)
    shapes["output"] = (1, zoo.module(net)(*zoo.feeds(net).values()).shape[-1])
    return interface_of(model, shapes)


def declared(model: ir.Model) -> list[tuple[str | None, ir.DataType | None, str]]:
    ends = (*model.graph.inputs, *model.graph.outputs)
    return [(value.name, value.dtype, str(value.shape)) for value in ends]


@pytest.mark.parametrize(("architecture", "net"), CASES)
def test_it_runs_with_the_interface_of_the_graph_that_it_stands_in_for(
    architecture: str, net: str, tmp_path: Path
) -> None:
    model = ARCHITECTURES[architecture](interface(net), 0.25, 0)
    assert declared(model) == declared(zoo.graph(net))
    save(model, tmp_path / "graph.onnx")
    onnx.checker.check_model(str(tmp_path / "graph.onnx"), full_check=True)
    session = runtime.open_session(tmp_path / "graph.onnx")
    for batch in (1, 3):
        feeds = zoo.feeds(net, batch)
        given = runtime.run(session, {name: value.numpy() for name, value in feeds.items()})
        executed = build(model)(feeds)["output"].detach().numpy()
        assert given["output"].shape == (batch, *interface(net).shapes["output"][1:])
        np.testing.assert_allclose(given["output"], executed, atol=1e-3)


@pytest.mark.parametrize(("architecture", "net"), CASES)
def test_gradients_reach_every_weight(architecture: str, net: str) -> None:
    executor = build(ARCHITECTURES[architecture](interface(net), 0.25, 0))
    assert not executor.frozen
    executor(zoo.feeds(net, 4))["output"].square().sum().backward()
    weights = {name: executor.weight(name) for name in executor.names if "weight" in name}
    assert len(weights) > 2
    assert not [name for name, each in weights.items() if not _is_reached(each)]


def _is_reached(weight: nn.Parameter) -> bool:
    return weight.grad is not None and bool(weight.grad.abs().sum() > 0)


@pytest.mark.parametrize("architecture", IMAGES)
def test_width_multiplies_channels(architecture: str) -> None:
    def elements(width: float) -> int:
        model = ARCHITECTURES[architecture](interface("residual"), width, 0)
        values = [value.const_value for value in model.graph.initializers.values()]
        return sum(each.size for each in values if each is not None)

    assert elements(1.0) > 1.5 * elements(0.5)


def test_the_seed_decides_the_weights() -> None:
    def first(seed: int) -> bytes:
        model = ARCHITECTURES["mlp"](interface("mlp"), 1.0, seed)
        value = model.graph.initializers["linear_weight"].const_value
        assert value is not None
        return value.tobytes()

    assert first(1) == first(1) != first(2)


@pytest.mark.parametrize(
    ("architecture", "net"),
    [("resnet_cifar", "mlp"), ("mobilenet_v2", "bert"), ("mlp", "bert"), ("transformer", "mlp")],
)
def test_what_does_not_fit_is_refused_with_what_to_use_instead(architecture: str, net: str) -> None:
    with pytest.raises(StepFailed, match="derive"):
        ARCHITECTURES[architecture](interface(net), 1.0, 0)


def test_an_output_of_images_is_refused() -> None:
    model = zoo.graph("encoder_decoder")
    model.graph.outputs[0].shape = ir.Shape(["batch", 2, "height", "width"])
    with pytest.raises(StepFailed, match="derive"):
        interface_of(model, {"image": (1, 3, 16, 16)})
