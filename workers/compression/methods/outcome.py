"""What a method hands back: a graph, and what it did to each node."""

from dataclasses import dataclass, field

import onnx_ir as ir

from app.domain.reports import LayerChange
from app.domain.steps import Skipped


@dataclass(frozen=True)
class Outcome:
    """The graph after a step. A refusal is a value with its reason."""

    model: ir.Model
    layers: list[LayerChange] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What a user would not expect."""
