"""TorchScript: a program with its weights; opening it runs code of it."""

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
        InvalidModel: it is broken, takes something else than tensors, or does not tell its inputs.
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
        inputs=settle(_told(module), hints.inputs),
        source="torchscript",
        version=torch.__version__,
    )


def _told(module: torch.jit.ScriptModule) -> list[FileInput]:
    """Return the inputs by name; of shapes, the file tells at most the channels."""
    schema: Any = module._c._get_method("forward").schema  # noqa: SLF001 (it has no public name)
    arguments = schema.arguments[1:]
    for each in arguments:
        if not isinstance(each.type, torch.TensorType) and not each.has_default_value():
            raise InvalidModel(
                f"The network takes '{each.name}' of the type {each.type}; what is uploaded takes"
                " tensors alone. Wrap it in a module whose forward takes tensors, and trace that."
            )
    tensors = [each for each in arguments if isinstance(each.type, torch.TensorType)]
    example = _example(module)
    return [FileInput(each.name, example=example) for each in tensors]


def _example(module: torch.jit.ScriptModule) -> list[int | str]:
    """Return a shape that the network's first weight speaks for."""
    first = next((p for p in module.parameters() if p.dim() >= 2), None)
    if first is None or first.dim() == 2:
        return [BATCH, 16 if first is None else first.shape[1]]
    return [BATCH, first.shape[1], *([224] * (first.dim() - 2))]
