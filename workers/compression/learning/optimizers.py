"""The optimizers, their state as named tensors, and the learning rates worth trying."""

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor

from workers.compression.learning.task import Task

Name = Literal["adamw", "sgd"]

_FIRST: dict[Name, float] = {"adamw": 1e-3, "sgd": 3e-2}
_REWOUND = ((400, 10.0), (100, 10**0.5))
"""Steps that a training needs, at least, to come back from so many times the usual rate."""
_DECAY = 0.01
"""Of weights whose scale says nothing, so that their steps do not get smaller and smaller
(Loshchilov & Hutter 2019; van Laarhoven 2017); others would lose what they know.
"""
_FACTOR = 10**0.5
_MOST_TRIALS = 5
"""After the first."""
_BEARABLE = 2.0
"""Times the loss before training that a trial may leave behind."""


def make(name: Name, task: Task) -> torch.optim.Optimizer:
    """Return an optimizer, with a group for each parameter that has the factor of its rate."""
    groups = [
        {"params": [parameter], "factor": task.rates.get(key, 1.0)}
        for key, parameter in task.parameters.items()
    ]
    if name == "sgd":
        return torch.optim.SGD(groups, lr=1.0, momentum=0.9, fused=True)
    decay = _DECAY if task.normalised else 0.0
    return torch.optim.AdamW(groups, lr=1.0, weight_decay=decay, fused=True)


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


def rewound(name: Name, steps: int) -> float | None:
    """Return a rate of trainings from the start, for networks that are normalised by the batch.

    Such weights have no scale, and bear it. What it breaks at first comes back, and more than a
    small rate gives (learning-rate rewinding, Renda, Frankle & Carbin 2020). No short trial sees
    that.

    Args:
        name: of the optimizer.
        steps: of the whole training; None is returned where they are too few to come back.
    """
    for least, times in _REWOUND:
        if steps >= least:
            return _FIRST[name] * times
    return None


def find_rate(name: Name, start: float, loss_after: Callable[[float], float]) -> float:
    """Return the largest learning rate that is no danger, by short trials.

    A trial says little about what is best in the end: it is over before a larger rate has repaired
    what its first steps broke, and would always favour the smallest. So the optimizer's usual rate
    is taken, or one that is larger by factors of √10 while that helps already; smaller ones only
    while a trial leaves the loss far above what it was.

    Args:
        name: of the optimizer.
        start: the loss before training.
        loss_after: the loss after a trial at a rate; infinite where it went astray.
    """
    rate = _FIRST[name]
    loss = loss_after(rate)
    bearable = _BEARABLE * start
    if loss > bearable:
        for _ in range(_MOST_TRIALS):
            rate /= _FACTOR
            if loss_after(rate) <= bearable:
                break
        return rate
    if loss < start:
        for _ in range(_MOST_TRIALS):
            larger = loss_after(rate * _FACTOR)
            if not larger < loss:
                break
            rate, loss = rate * _FACTOR, larger
    return rate
