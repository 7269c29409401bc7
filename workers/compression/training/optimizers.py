"""The optimizers, their state as named tensors, and the learning rates worth trying."""

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor

from workers.compression.training.task import Task

Name = Literal["adamw", "sgd"]

_FIRST: dict[Name, float] = {"adamw": 1e-3, "sgd": 3e-2}
_FACTOR = 10**0.5
_MOST_TRIALS = 6


def make(name: Name, task: Task) -> torch.optim.Optimizer:
    """Return an optimizer, with a group for each parameter that has the factor of its rate."""
    groups = [
        {"params": [parameter], "factor": task.rates.get(key, 1.0)}
        for key, parameter in task.parameters.items()
    ]
    if name == "sgd":
        return torch.optim.SGD(groups, lr=1.0, momentum=0.9, fused=True)
    return torch.optim.AdamW(groups, lr=1.0, weight_decay=0.0, fused=True)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of the next step."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]


def moments(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return what an optimizer remembers, by ``<parameter>/<what>``."""
    return {
        f"{index}/{key}": value
        for index, entry in optimizer.state_dict()["state"].items()
        for key, value in entry.items()
        if value is not None
    }


def load_moments(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Let an optimizer remember what ``moments`` returned."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, key = name.partition("/")
        state.setdefault(int(index), {})[key] = tensor
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def find_rate(name: Name, loss_after: Callable[[float], float]) -> float:
    """Return the learning rate that is best over a short trial.

    From the optimizer's usual rate by factors of √10 upwards while that helps, else downwards.

    Args:
        name: of the optimizer.
        loss_after: the loss after a trial at a rate; infinite where it went astray.
    """
    best = _FIRST[name]
    least, trials = loss_after(best), 1
    for factor in (_FACTOR, 1 / _FACTOR):
        start = best
        while trials < _MOST_TRIALS:
            loss, trials = loss_after(best * factor), trials + 1
            if not loss < least:
                break
            best, least = best * factor, loss
        if best != start:
            break
    return best
