"""Where the values of a run lie: in host memory, or on a GPU."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch


def device_of(values: Iterable[Any]) -> torch.device:
    """Return the GPU on which the first of the tensors lies that is on one, else the CPU.

    Args:
        values: tensors, lists of them, and whatever else a step reads; only tensors count.
    """
    devices = (tensor.device for value in values for tensor in _tensors(value))
    return next((device for device in devices if device.type != "cpu"), torch.device("cpu"))


def bring(values: Iterable[Any], device: torch.device) -> tuple[Any, ...]:
    """Return values with their tensors on a device; whatever else there is stays as it is.

    Args:
        values: tensors, lists of them, and whatever else a step gives.
        device: where they are wanted.
    """
    return tuple(_brought(value, device) for value in values)


def _brought(value: Any, device: torch.device) -> Any:
    if isinstance(value, list):
        return [_brought(element, device) for element in value]
    lies_elsewhere = isinstance(value, torch.Tensor) and value.device != device
    return value.to(device) if lies_elsewhere else value


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    for element in value if isinstance(value, list) else [value]:
        if isinstance(element, torch.Tensor):
            yield element
