"""Recurrent layers: the source's outputs and gradients."""

import warnings
from collections.abc import Callable
from pathlib import Path

import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

from workers.compression.executor import build
from workers.compression.graph.load import load
from workers.compression.graph.rewrites.opset import lift_opset


class Reader(nn.Module):
    def __init__(self, kind: Callable[..., nn.Module], *, both: bool) -> None:
        super().__init__()
        self.body = kind(5, 6, num_layers=2, bidirectional=both, batch_first=True)
        self.head = nn.Linear(12 if both else 6, 3)

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.head(self.body(x)[0])
        return answer


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("both", [False, True])
def test_a_recurrent_network_is_the_sources(
    kind: type[nn.RNNBase], both: bool, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    source = Reader(kind, both=both).eval()
    x = torch.randn(3, 7, 5, requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            source, (x.detach(),), tmp_path / "model.onnx", input_names=["x"], output_names=["y"],
            dynamic_axes={"x": {0: "batch", 1: "time"}}, dynamo=False, opset_version=17,
        )  # fmt: skip
    model = load(tmp_path / "model.onnx")
    lift_opset(model)
    executor = build(model)
    assert executor.frozen == []
    y = executor({"x": x})["y"]
    weights = torch.linspace(-1, 1, y.numel()).reshape(y.shape)
    (y * weights).sum().backward()
    found, x.grad = x.grad, None
    wanted = source(x)
    (wanted * weights).sum().backward()
    torch.testing.assert_close(y, wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found, x.grad, rtol=1e-3, atol=1e-5)
    recurrent = [node for node in model.graph if node.op_type == kind.__name__]
    assert len(recurrent) == 2
    for node in recurrent:
        weight = executor.weight(str(_given(node, 1).name))
        assert weight.grad is not None
        assert float(weight.grad.abs().sum()) > 0


def _given(node: ir.Node, slot: int) -> ir.Value:
    value = node.inputs[slot]
    assert value is not None
    return value
