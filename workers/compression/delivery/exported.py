"""Exports the graph as a torch program, from which LiteRT, ExecuTorch and Core ML are converted.

Shapes are those of one run; the arithmetic of shapes is folded away, and weights that the file
stores in few bits are floats. QuantizeLinear and DequantizeLinear become torch's own operators with
the graph's scales and zero points, so that a converter uses exactly the quantization parameters of
the graph.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.fx.traceback import preserve_node_meta

from app.domain.problems import DeliveryFailed
from workers.compression import faults
from workers.compression.delivery.grids import Grids, write_grids
from workers.compression.executor import Executor, build
from workers.compression.executor.compiling import is_tensor
from workers.compression.graph.load import load
from workers.compression.graph.rewrites.float32 import compute_in_float32
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


def program(
    graph: Path, feeds: Feeds, grids: Grids, *, dynamic: bool = False
) -> torch.export.ExportedProgram:
    """Export a graph on disk for the shapes of one run, or with its dynamic dimensions.

    Args:
        graph: in normal form.
        feeds: the inputs of one run; their shapes are fixed.
        grids: how quantization is written for the converter.
        dynamic: keep the dynamic dimensions of the inputs.

    Raises:
        DeliveryFailed: an operator has no function of torch, or a shape depends on values.
    """
    model = load(graph)
    shapes = _dynamic(model) if dynamic else None
    if not dynamic:
        for value in model.graph.inputs:
            value.shape = ir.Shape(feeds[str(value.name)].shape)
    for value in model.graph.outputs:
        if not is_tensor(value):
            raise DeliveryFailed(
                f"output '{value.name}' holds strings or a sequence, which torch has no tensor for."
            )
        value.shape = None
    if grids.in_float32:
        compute_in_float32(model)
    fold_constants(model, growing=True)
    write_grids(model, grids)
    executor = build(model)
    if executor.untranslated:
        raise DeliveryFailed(f"torch has nothing like {executor.untranslated[0]}.")
    names = [str(value.name) for value in model.graph.inputs]
    plain = Plain(executor, names, [str(value.name) for value in model.graph.outputs]).eval()
    plain.requires_grad_(requires_grad=False)
    arrays = tuple(torch.from_numpy(np.asarray(feeds[name], order="C")) for name in names)
    if shapes is not None:
        arrays = tuple(map(_enlarged, arrays, shapes))
    try:
        with torch.no_grad(), preserve_node_meta():
            made = (shapes,) if shapes is not None else None
            exported = torch.export.export(plain, arrays, dynamic_shapes=made, strict=False)
    except Exception as error:  # torch.export raises errors of any class
        raise DeliveryFailed(f"torch refuses this model: {faults.refusal(error)}.") from error
    _without_detaching(exported)
    return exported


def _without_detaching(exported: torch.export.ExportedProgram) -> None:
    """Leave out what detaches a constant from gradients, which a program cannot do twice.

    torch writes it where numbers become a tensor, and a converter that exports the program again
    fails there. The program's outputs are named after what gives them, so that stays.
    """
    for node in list(exported.graph.nodes):
        given = any(user.op == "output" for user in node.users)
        if node.target == torch.ops.aten.detach_.default and not given:
            node.replace_all_uses_with(node.args[0])
            exported.graph.erase_node(node)


def _dynamic(model: ir.Model) -> tuple[dict[int, Any], ...]:
    """Return the axes of each input that may be dynamic; torch fixes those that must be."""
    return tuple(
        {axis: Dim.AUTO for axis, size in enumerate(value.shape or ()) if not isinstance(size, int)}
        for value in model.graph.inputs
    )


def _enlarged(array: Tensor, axes: dict[int, Any]) -> Tensor:
    """Repeat an example along its dynamic axes of size 1: torch takes a 1 for fixed."""
    for axis in axes:
        if array.shape[axis] == 1:
            array = torch.cat([array, array], axis)
    return array
