"""The forms that layers may have, and the graphs that a choice among them is made of."""

from dataclasses import dataclass
from functools import cached_property

from app.domain.layer_forms import IN_WORDS, LayerForm
from app.domain.reports import Choice
from app.domain.steps import Quantize
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.quantize.selection import Prepared

_WORTH = {"balanced": (1.0, 0.5), "size": (0.1, 1.0), "speed": (1.0, 0.1)}
"""The exponents of the speed-up and of the size ratio in the worth of a graph."""


@dataclass(frozen=True)
class Form:
    """A form of layers, with what writes it."""

    name: LayerForm
    prepared: Prepared
    parameters: Quantize

    @property
    def title(self) -> str:
        """What the graph with all layers in this form is called."""
        return f"{IN_WORDS[self.name]}, throughout"

    @cached_property
    def throughout(self) -> Outcome:
        """The graph with all layers in this form."""
        return self.prepared.write({})


@dataclass(frozen=True)
class Variant:
    """A quantized graph, with its speed-up and its size ratio."""

    outcome: Outcome
    faster: float
    """The original's latency over that of this graph."""
    smaller: float
    """The original's bytes over those of this graph."""
    profitable: bool
    """Whether it is neither slower nor larger than the original."""
    allowed: bool
    """Whether it also keeps the bound."""
    point: Choice
    """Its place among the choices of the report."""

    def worth(self, prefer: str) -> float:
        """Return the figure by which variants are compared: larger is better."""
        return worth_of(self.faster, self.smaller, prefer)


def worth_of(faster: float, smaller: float, prefer: str) -> float:
    """Return what a speed-up and a size ratio are worth; larger is better."""
    time, size = _WORTH[prefer]
    return float(faster**time * smaller**size)
