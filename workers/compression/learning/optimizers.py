"""The optimizers, their usual learning rates, and their state as named tensors."""

from collections.abc import Mapping
from typing import assert_never

import torch
from torch import Tensor, nn

from app.domain.steps.recover import Optimizer
from workers.compression.learning.task import Task

_USUAL: dict[Optimizer, float] = {"adamw": 1e-3, "sgd": 3e-2}
_DECAY = 0.01
"""The decay of weights before batch normalisation. Their scale does not change the outputs;
without decay it grows, and effective steps get smaller (Loshchilov & Hutter 2019; van Laarhoven
2017). For other weights decay would undo what they have learned.
"""


def make(name: Optimizer, task: Task) -> torch.optim.Optimizer:
    """Return an optimizer with one group of parameters for each factor of the rate.

    A step costs a GPU as many launches as there are groups.
    """
    parameters: dict[float, list[nn.Parameter]] = {}
    for key, parameter in task.parameters.items():
        parameters.setdefault(task.rates.get(key, 1.0), []).append(parameter)
    groups = [{"params": group, "factor": factor} for factor, group in parameters.items()]
    match name:
        case "sgd":
            return torch.optim.SGD(groups, lr=1.0, momentum=0.9, fused=True)
        case "adamw":
            decay = _DECAY if task.normalised else 0.0
            return torch.optim.AdamW(groups, lr=1.0, weight_decay=decay, fused=True)
        case _:
            assert_never(name)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of the next step."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]


def state_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the state of an optimizer, such as its moments, by ``<parameter>/<key>``."""
    return {
        f"{index}/{key}": value
        for index, entry in optimizer.state_dict()["state"].items()
        for key, value in entry.items()
        if value is not None
    }


def load_state(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restore the state of an optimizer from the tensors that ``state_tensors`` returned."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, key = name.partition("/")
        state.setdefault(int(index), {})[key] = tensor
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def usual_rate(name: Optimizer) -> float:
    """Return the usual learning rate of an optimizer for fine-tuning."""
    return _USUAL[name]
