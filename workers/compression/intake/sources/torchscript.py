"""Reads TorchScript, a program with its weights. Opening it runs its code."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from app.domain.models import ModelHints
from app.domain.problems import InvalidModel
from workers.compression import faults
from workers.compression.intake.sources.hints import FileInput, settle
from workers.compression.intake.sources.program import BATCH, Program


def read(upload: Path, hints: ModelHints) -> Program:
    """Open a TorchScript file.

    Raises:
        InvalidModel: the file is broken, an input is not a tensor, or inputs are not stated.
    """
    try:
        load: Callable[..., torch.jit.ScriptModule] = torch.jit.load
        module = load(str(upload), map_location="cpu").eval()
    except Exception as error:
        if faults.is_limit(error):
            raise
        raise InvalidModel(
            "The TorchScript file cannot be opened. Save it again with"
            " torch.jit.save(torch.jit.trace(model.eval(), example), 'model.pt')."
        ) from error
    return Program(
        module=module,
        weights=module.state_dict(),
        inputs=settle(_file_inputs(module), hints.inputs),
        source="torchscript",
        version=torch.__version__,
    )


def _file_inputs(module: torch.jit.ScriptModule) -> list[FileInput]:
    """Return the inputs by name; of shapes the file shows the channels at most."""
    schema: Any = module._c._get_method("forward").schema  # noqa: SLF001 (it has no public name)
    arguments = schema.arguments[1:]
    for entry in arguments:
        if not isinstance(entry.type, torch.TensorType) and not entry.has_default_value():
            raise InvalidModel(
                f"The network takes '{entry.name}' of the type {entry.type}; what is uploaded takes"
                " tensors alone. Wrap it in a module whose forward takes tensors, and trace that."
            )
    tensors = [entry for entry in arguments if isinstance(entry.type, torch.TensorType)]
    example = _example(module)
    return [FileInput(entry.name, example=example) for entry in tensors]


def _example(module: torch.jit.ScriptModule) -> list[int | str]:
    """Return an example shape that fits the network's first weight."""
    first = next((p for p in module.parameters() if p.dim() >= 2), None)
    if first is None or first.dim() == 2:
        return [BATCH, 16 if first is None else first.shape[1]]
    return [BATCH, first.shape[1], *([224] * (first.dim() - 2))]
