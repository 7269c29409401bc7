"""Exports the graph as a torch program, from which LiteRT, ExecuTorch and Core ML are converted.

Shapes are those of one run; the arithmetic of shapes is folded away. QuantizeLinear and
DequantizeLinear become torch's own operators with the graph's scales and zero points, so that a
converter uses exactly the quantization parameters of the graph.
"""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn

from app.domain.problems import DeliveryFailed
from workers.compression.delivery.grids import Grids, write_grids
from workers.compression.executor import Executor, build
from workers.compression.graph.load import load
from workers.compression.graph.rewrites.fold import fold_constants
from workers.compression.samples.context import Feeds


class Plain(nn.Module):
    """The executor with positional inputs and outputs."""

    def __init__(self, executor: Executor, inputs: list[str], outputs: list[str]) -> None:
        super().__init__()
        self.executor, self._inputs, self._outputs = executor, inputs, outputs

    def forward(self, *arrays: Tensor) -> tuple[Tensor, ...]:
        """Compute the outputs in the graph's order."""
        outputs = self.executor(dict(zip(self._inputs, arrays, strict=True)))
        return tuple(outputs[name] for name in self._outputs)


def program(graph: Path, feeds: Feeds, grids: Grids) -> torch.export.ExportedProgram:
    """Export a graph on disk for the shapes of one run.

    Args:
        graph: in normal form.
        feeds: the inputs of one run; their shapes are fixed.
        grids: how quantization is written for the converter.

    Raises:
        DeliveryFailed: an operator has no function of torch, or a shape depends on values.
    """
    model = load(graph)
    for value in model.graph.inputs:
        value.shape = ir.Shape(feeds[str(value.name)].shape)
    for value in model.graph.outputs:
        value.shape = None
    fold_constants(model)
    write_grids(model, grids)
    executor = build(model)
    if executor.frozen:
        first = executor.frozen[0]
        raise DeliveryFailed(f"node '{first.node}' has no function of torch ({first.reason}).")
    names = [str(value.name) for value in model.graph.inputs]
    plain = Plain(executor, names, [str(value.name) for value in model.graph.outputs]).eval()
    plain.requires_grad_(requires_grad=False)
    arrays = tuple(torch.from_numpy(np.ascontiguousarray(feeds[name])) for name in names)
    try:
        with torch.no_grad():
            return torch.export.export(plain, arrays, strict=False)
    except Exception as error:  # torch.export raises errors of any class
        raise DeliveryFailed(
            f"torch cannot export this model: {' '.join(str(error).split())[:300]}"
        ) from error
