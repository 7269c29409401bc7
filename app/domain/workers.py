"""What a worker says of itself when it starts; the gateway reads it, doctors show it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from app.domain.reports import Machine
from app.domain.targets import Target


class Confinement(BaseModel):
    """What the kernel at hand lets the engine process be confined by, tried out."""

    model_config = ConfigDict(frozen=True)

    user_namespace: bool
    network_namespace: bool
    pid_namespace: bool
    landlock_abi: int
    """0 where there is no Landlock."""
    seccomp: bool
    memory: Literal["cgroup", "watched"]
    uid: int


class Capabilities(BaseModel):
    """Printed by the engine when asked to describe itself."""

    model_config = ConfigDict(frozen=True)

    machine: Machine
    targets: list[Target]
    versions: dict[str, str]
