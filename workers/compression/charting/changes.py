"""A graph in which one layer has another form, or why it cannot have it."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol

import onnx_ir as ir

from app.domain.sensitivity import Form, Saved


@dataclass(frozen=True)
class Change:
    """A graph in which one layer has another form."""

    model: ir.Model
    saved: Saved
    key: Hashable
    """Changes with the same key have the same graph: coupled layers are cut together."""


@dataclass(frozen=True)
class Refused:
    """The reason why a layer cannot have a form."""

    reason: str


class Changes(Protocol):
    """What gives layers the forms of one kind."""

    def change(self, form: Form, name: str) -> Change | Refused:
        """Return the graph in which a layer, by its name, has a form."""
