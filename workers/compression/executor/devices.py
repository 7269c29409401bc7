"""Where the values of a run lie: in host memory, or on a GPU."""

from collections.abc import Iterable
from typing import Any

import torch


def device_of(values: Iterable[Any]) -> torch.device:
    """Return the GPU on which the first of the tensors lies that is on one, else the CPU.

    Args:
        values: tensors, and whatever else a step reads; only tensors count.
    """
    devices = (value.device for value in values if isinstance(value, torch.Tensor))
    return next((device for device in devices if device.type != "cpu"), torch.device("cpu"))


def bring(values: Iterable[Any], device: torch.device) -> tuple[Any, ...]:
    """Return values with their tensors on a device; whatever is no tensor stays as it is."""
    return tuple(
        value.to(device) if isinstance(value, torch.Tensor) and value.device != device else value
        for value in values
    )
