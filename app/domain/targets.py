"""Where a compressed model can run, as the workers announce it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

TargetName = Literal["onnx", "litert", "executorch"]


class Device(BaseModel):
    """One processor that a worker offers."""

    model_config = ConfigDict(frozen=True)

    name: str
    kind: Literal["cpu", "cuda"]
    instruction_sets: list[str]
    threads: int


class Target(BaseModel):
    """An output format with the runtime that its figures are measured on."""

    model_config = ConfigDict(frozen=True)

    target: TargetName
    runtime: str
    version: str
    devices: list[Device]
    accelerates: list[str]
    """What runs faster on these devices, such as ``int8`` or ``float16``."""
