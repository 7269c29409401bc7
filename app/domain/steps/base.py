"""What every step has in common: its parameters are data, its needs are said."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.domain.models import Layer, Skipped, TensorSpec

__all__ = ["Forecast", "Ignored", "Needs", "Outlook", "Share", "Skipped", "Step", "matches"]

Ignored = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=512)]],
    Field(
        max_length=1000,
        description="Nodes to leave alone: names or patterns such as '/encoder/*'.",
    ),
]
"""What a step is told to leave alone."""


class Needs(BaseModel):
    """What a step cannot do without."""

    model_config = ConfigDict(frozen=True)

    data: Literal["none", "inputs", "targets"]
    trainable: bool = False


class Outlook(BaseModel):
    """A graph as a plan sees it, from descriptions alone."""

    model_config = ConfigDict(frozen=True)

    layers: list[Layer]
    size_bytes: int
    macs: int
    samples: int
    """Of the dataset; 0 without one."""
    inputs: list[TensorSpec] = []


class Forecast(BaseModel):
    """What a plan expects of a step, from the model's description alone."""

    model_config = ConfigDict(frozen=True)

    size_bytes: int
    macs: int
    minutes: float
    skipped: list[Skipped] = []
    remarks: list[str] = []
    """Sentences on what the step will do, where its parameters leave that open."""


Share = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
"""A part of something, neither none nor all of it."""


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Return whether a node's name is one of these, or fits one as a shell pattern."""
    return any(name == pattern or fnmatchcase(name, pattern) for pattern in patterns)


def left_alone(
    layers: Sequence[Layer],
    patterns: Iterable[str],
    unfit: Callable[[Layer], str | None] = lambda _layer: None,
) -> list[Skipped]:
    """Return the layers that a step leaves alone, as far as their descriptions tell.

    Args:
        layers: of the graph.
        patterns: names to ignore.
        unfit: says why the step has no use for a layer, None where it may have.
    """
    patterns = list(patterns)
    reasons = [
        "named in 'ignore'"
        if matches(layer.name, patterns)
        else "it has no weights"
        if not layer.parameters
        else unfit(layer)
        for layer in layers
    ]
    return [
        Skipped(node=layer.name, reason=reason)
        for layer, reason in zip(layers, reasons, strict=True)
        if reason is not None
    ]


class Step(BaseModel):
    """One entry of a request: a method and its parameters, every default filled in."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    title: ClassVar[str]
    provides: ClassVar[tuple[str, ...]]
    """What later steps may count on, or refuse: ``quantized`` cannot be trained, say."""
    refuses: ClassVar[tuple[str, ...]] = ()
    """What must not have been provided by an earlier step."""

    method: Any

    @property
    @abstractmethod
    def needs(self) -> Needs:
        """What this step, with these parameters, cannot do without."""

    @property
    def traits(self) -> tuple[str, ...]:
        """What a step with these parameters provides."""
        return self.provides

    @property
    def other_models(self) -> dict[str, str]:
        """The ids of models that this step reads besides the job's, by their place in it."""
        return {}

    @abstractmethod
    def forecast(self, graph: Outlook) -> Forecast:
        """Estimate what this step makes of a graph."""
