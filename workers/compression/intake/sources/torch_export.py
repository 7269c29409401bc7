"""Reads programs of torch.export (``.pt2``).

Opening one runs code, as it holds pickles and expressions.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from app.domain.models import ModelHints
from app.domain.problems import InvalidModel
from workers.compression import faults
from workers.compression.intake.sources.hints import FileInput, Shape, settle
from workers.compression.intake.sources.program import BATCH, Program


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
    return Program(
        module=module,
        weights=module.state_dict(),
        inputs=settle(_file_inputs(exported), hints.inputs),
        source="torch_export",
        version=torch.__version__,
        exported=exported,
    )


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
