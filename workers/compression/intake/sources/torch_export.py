"""Reads programs of torch.export (``.pt2``).

Opening one runs code, as it holds pickles and expressions.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export.graph_signature import TensorArgument
from torch.utils import _pytree as pytree

from app.domain.models import ModelHints
from app.domain.problems import InvalidModel
from workers.compression import faults
from workers.compression.intake.sources.hints import FileInput, Shape, settle
from workers.compression.intake.sources.program import BATCH, Program, flat


def read(upload: Path, hints: ModelHints) -> Program:
    """Open a ``.pt2`` file.

    Raises:
        InvalidModel: the file is broken, or an input is not a tensor.
    """
    try:
        exported = torch.export.load(upload)
        module = exported.module()
    except Exception as error:
        if faults.is_limit(error):
            raise
        faults.log(error)
        raise InvalidModel(
            "The program of torch.export cannot be opened. Save it again with"
            f" torch.export.save(torch.export.export(model, (example,)), 'model.pt2') and a torch"
            f" of {torch.__version__.partition('+')[0]} or older."
        ) from error
    stated = _file_inputs(exported)
    inputs = settle(stated, hints.inputs)
    as_it_is = _gives_tensors(exported) and not any(
        isinstance(size, int) and not isinstance(own, int)
        for spec, of_file in zip(inputs, stated, strict=True)
        for size, own in zip(spec.shape, of_file.shape or (), strict=True)
    )
    return Program(
        module=_Flat(module, exported.call_spec.in_spec),
        weights=module.state_dict(),
        inputs=inputs,
        source="torch_export",
        version=torch.__version__,
        exported=exported if as_it_is else None,
    )


class _Flat(nn.Module):
    """A program that takes its tensors by position, also where it has dicts of them or keywords."""

    def __init__(self, module: nn.Module, structure: Any) -> None:
        super().__init__()
        self.module, self._structure = module, structure

    def forward(self, *tensors: Tensor) -> Any:
        """Return the program's output; of several, those that are tensors."""
        arguments, keywords = pytree.tree_unflatten(list(tensors), self._structure)
        outputs = self.module(*arguments, **keywords)
        found = flat(outputs)
        return outputs if len(found) == len(pytree.tree_leaves(outputs)) else found


def _gives_tensors(exported: torch.export.ExportedProgram) -> bool:
    kinds = [spec.arg for spec in exported.graph_signature.output_specs]
    return all(isinstance(kind, TensorArgument) for kind in kinds)


def _file_inputs(exported: torch.export.ExportedProgram) -> list[FileInput]:
    values = {
        node.name: node.meta.get("val") for node in exported.graph.nodes if node.op == "placeholder"
    }
    names: dict[str, str] = {}
    file_inputs = []
    for name in exported.graph_signature.user_inputs:
        value = values.get(str(name))
        if not isinstance(value, Tensor):
            raise InvalidModel(
                f"The program takes '{name}', which is no tensor. Export a module whose forward"
                " takes tensors alone."
            )
        dtype = str(value.dtype).removeprefix("torch.")
        file_inputs.append(FileInput(str(name), dtype, _shape(value.shape, names)))
    return file_inputs


def _shape(sizes: Any, names: dict[str, str]) -> Shape:
    """Return a shape with names for dynamic dimensions; equal dimensions get equal names."""
    shape: Shape = []
    for axis, size in enumerate(sizes):
        if isinstance(size, int):
            shape.append(size)
        else:
            first = BATCH if axis == 0 and BATCH not in names.values() else f"size_{len(names)}"
            shape.append(names.setdefault(str(size), first))
    return shape
