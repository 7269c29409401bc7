"""Calls torch's two exporters: one for modules and exported programs, one for TorchScript."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.export import Dim

from workers.compression.intake.sources import promotion
from workers.compression.intake.sources.program import Program

OPSET = 21
SCRIPT_OPSET = 20
"""The newest that the exporter of TorchScript knows; the normal form lifts it."""


def export(program: Program, example: Sequence[Tensor], outputs: list[str], path: Path) -> None:
    """Write a program's graph, with the names and the dynamic dimensions of its inputs.

    Args:
        program: the network.
        example: example inputs of the network.
        outputs: a name for each output.
        path: the file to write; large weights are written to a second file next to it.

    Raises:
        Exception: an error of torch: the network cannot be exported.
    """
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch warns about its own deprecations
        if isinstance(program.module, torch.jit.ScriptModule):
            _script(program, example, outputs, path)
        else:
            _module(program, example, outputs, path)


def _script(program: Program, example: Sequence[Tensor], outputs: list[str], path: Path) -> None:
    torch.onnx.export(
        program.module,
        tuple(example),
        str(path),
        dynamo=False,
        opset_version=SCRIPT_OPSET,
        input_names=[spec.name for spec in program.inputs],
        output_names=outputs,
        dynamic_axes={
            spec.name: {n: size for n, size in enumerate(spec.shape) if isinstance(size, str)}
            for spec in program.inputs
        },
        verbose=False,
    )


def _module(program: Program, example: Sequence[Tensor], outputs: list[str], path: Path) -> None:
    names = [spec.name for spec in program.inputs]
    options: dict[str, Any] = {"input_names": names, "output_names": outputs, "verbose": False}
    if program.exported is not None:
        promotion.call_by_first_names(program.exported)
        made = torch.onnx.export(program.exported, opset_version=OPSET, dynamo=True, **options)
    else:
        dynamic = tuple(
            {n: Dim.DYNAMIC for n, size in enumerate(spec.shape) if isinstance(size, str)}
            for spec in program.inputs
        )
        made = torch.onnx.export(
            _Positional(program.module),
            tuple(example),
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes=(dynamic,),
            **options,
        )
    assert made is not None, "it was not asked to write a file"
    _separate_names(made.model)
    _name_dimensions(made.model, program)
    made.save(path)


class _Positional(nn.Module):
    """A module that takes any number of tensors, whatever its own arguments are called."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *tensors: Tensor) -> Any:
        with promotion.Promoting():
            return self.module(*tensors)


def _separate_names(model: ir.Model) -> None:
    """Rename values within the graph that have the name of an input, an output or another one.

    The exporter gives outputs their names without looking whether another value has one already.
    """
    border = {*model.graph.inputs, *model.graph.outputs}
    taken = {value.name for value in border}
    constants = list(model.graph.initializers.values())
    for value in [*constants, *(value for node in model.graph for value in node.outputs)]:
        if value in border or not value.name:
            continue
        while value.name in taken:
            value.name = f"{value.name}_within"
        taken.add(value.name)


def _name_dimensions(model: ir.Model, program: Program) -> None:
    """Give the dynamic dimensions their requested names."""
    names: dict[str, str] = {}
    for value, spec in zip(model.graph.inputs, program.inputs, strict=True):
        for size, requested in zip(value.shape or (), spec.shape, strict=True):
            if isinstance(size, ir.SymbolicDim) and isinstance(requested, str):
                names.setdefault(str(size.value), requested)
    for value in [*model.graph.inputs, *model.graph.outputs]:
        if value.shape is not None:
            value.shape = ir.Shape(
                [
                    names.get(str(size.value), size) if isinstance(size, ir.SymbolicDim) else size
                    for size in value.shape
                ]
            )
