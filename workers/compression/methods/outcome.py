"""The result of a method: a graph, and a report of the change of each node."""

from dataclasses import dataclass, field

import onnx_ir as ir

from app.domain.reports import Choice, LayerChange, LayerPrice
from app.domain.steps import Skipped
from workers.compression.graph.kept import Kept


@dataclass(frozen=True)
class Outcome:
    """The graph after a step, the changed layers, and the skipped layers with their reasons."""

    model: ir.Model
    layers: list[LayerChange] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Facts about the result that a user would not expect."""
    settled: bool = True
    """False where another try may come to another result, as this machine was too busy."""
    kept: Kept = field(default_factory=dict)
    """Of constants that were cut, by name and axis: the indices that are left."""
    choices: list[Choice] = field(default_factory=list)
    """The graphs that the method chose from."""
    prices: list[LayerPrice] = field(default_factory=list)
    """What layers lose and gain by themselves, where the method measured that."""
    other_prices: list[LayerPrice] = field(default_factory=list)
    """The same in other forms that were measured."""
