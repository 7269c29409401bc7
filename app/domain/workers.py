"""The announcement of a worker at its start; the gateway and ``planish doctor`` read it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from app.domain.reports import Machine
from app.domain.targets import Target

Mode = Literal["namespaces", "namespaces-one-process", "filter"]
"""How a run is kept apart, strongest first; ``docs/security.md`` says what each leaves open.

``namespaces``: a user, process table, network, host name and file system of its own.
``namespaces-one-process``: the same where ``/proc`` may not be mounted, as in containers; of
``/proc`` it sees its own first process, and no other.
``filter``: no namespaces; Landlock and the filter of system calls alone, and nothing can be forked.
"""


class Confinement(BaseModel):
    """What the kernel at hand lets the engine process be confined by, tried out."""

    model_config = ConfigDict(frozen=True)

    mode: Mode

    user_namespace: bool
    network_namespace: bool
    pid_namespace: bool
    landlock_abi: int
    """0 where there is no Landlock."""
    seccomp: bool
    memory: Literal["watched"]
    uid: int

    @property
    def whole(self) -> bool:
        """Whether a run may be given code that a stranger wrote: every mechanism is in force."""
        return self.mode != "filter" and self.landlock_abi > 0 and self.seccomp


class Capabilities(BaseModel):
    """Printed by the engine when asked to describe itself."""

    model_config = ConfigDict(frozen=True)

    machine: Machine
    targets: list[Target]
    versions: dict[str, str]
