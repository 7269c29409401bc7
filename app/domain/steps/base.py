"""The base of all steps: parameters as data, and declared needs."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from app.domain.frozen import Asked
from app.domain.layer_forms import LayerForm
from app.domain.models import Layer, ModelDescription, Skipped, TensorSpec

__all__ = [
    "Forecast",
    "Ignored",
    "Multiple",
    "Needs",
    "Outlook",
    "Share",
    "Skipped",
    "Step",
    "matches",
    "searched",
]

Ignored = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=512)]],
    Field(
        title="Layers to leave alone",
        max_length=1000,
        description="Nodes to leave alone: names or patterns such as '/encoder/*'.",
    ),
]
"""Names and patterns of nodes that a step ignores."""


class Needs(BaseModel):
    """What a step cannot do without."""

    model_config = ConfigDict(frozen=True)

    data: Literal["none", "inputs", "targets"]
    trainable: bool = False


class Outlook(BaseModel):
    """The figures of a graph that a plan uses, from descriptions alone."""

    model_config = ConfigDict(frozen=True)

    layers: list[Layer]
    size_bytes: int
    macs: int
    samples: int
    """The number of samples of the dataset; 0 without one."""
    inputs: list[TensorSpec] = []

    @classmethod
    def of(cls, known: ModelDescription, size_bytes: int, samples: int) -> Self:
        """Return the figures of a model that was inspected.

        Args:
            known: what inspection found.
            size_bytes: of the model's file.
            samples: of the dataset, or that are made; 0 for none.
        """
        return cls(
            layers=known.layers,
            size_bytes=size_bytes,
            macs=known.macs,
            samples=samples,
            inputs=known.inputs,
        )

    def layers_beside(self, skipped: Iterable[Skipped]) -> list[Layer]:
        """Return the layers that a step does not leave alone."""
        left = {skip.node for skip in skipped}
        return [layer for layer in self.layers if layer.name not in left]


class Forecast(BaseModel):
    """The forecast of a step for a plan, from the description of the model alone."""

    model_config = ConfigDict(frozen=True)

    size_bytes: int
    macs: int
    minutes: float
    skipped: list[Skipped] = []
    remarks: list[str] = []
    """Sentences on what the step will do, where its parameters leave that open."""


Multiple = Annotated[int, Field(ge=1, le=64)]
"""Of how many channels the layers that are cut keep a multiple."""

Share = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
"""A part of something, neither none nor all of it."""


def searched(**over: Any) -> dict[str, Any]:
    """Return the JSON Schema extra of a field that a search varies.

    Args:
        over: ``low`` and ``high`` of a number, with ``log=True`` evenly over its logarithm; or the
            ``choices``. ``within`` names parts of the field by their path, each with such a range.
            ``when`` names other fields, and the values of them with which this one matters.
    """
    return {"search": over}


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Return whether a node's name is in a list, or matches a shell pattern in it."""
    return any(name == pattern or fnmatchcase(name, pattern) for pattern in patterns)


def left_alone(
    layers: Sequence[Layer],
    patterns: Iterable[str],
    unfit: Callable[[Layer], str | None] = lambda _layer: None,
) -> list[Skipped]:
    """Return the layers that a step leaves alone, as far as their descriptions tell.

    Args:
        layers: the layers of the graph.
        patterns: names and patterns to ignore.
        unfit: returns why the step cannot use a layer, None if it may.
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


Saving = Literal["latency", "size", "macs"]
"""What a step may make less of."""

ALL_SAVINGS: frozenset[Saving] = frozenset({"latency", "size", "macs"})


class Step(Asked):
    """One entry of a request: a method and its parameters, every default filled in."""

    title: ClassVar[str]
    gentler: ClassVar[str]
    """What to ask for so that less quality is lost, in words that follow 'To lose less,'."""
    provides: ClassVar[tuple[str, ...]]
    """Properties for later steps to rely on, or to refuse: a ``quantized`` graph cannot be
    trained."""
    refuses: ClassVar[tuple[str, ...]] = ()
    """Properties that no earlier step may have provided."""
    follows: ClassVar[tuple[str, ...]] = ()
    """Properties that earlier steps must have provided."""

    method: Any

    @property
    @abstractmethod
    def needs(self) -> Needs:
        """The requirements of this step with these parameters."""

    @property
    def traits(self) -> tuple[str, ...]:
        """The properties that this step provides with these parameters."""
        return self.provides

    @property
    @abstractmethod
    def place(self) -> int:
        """Where this step stands in a pipeline that is searched for: lower comes first."""

    @property
    @abstractmethod
    def saves(self) -> frozenset[Saving]:
        """What this step, with these parameters, makes less of."""

    @property
    def layer_form(self) -> LayerForm | None:
        """What this step makes of layers, where not every format holds it."""
        return None

    @property
    def chooses_forms(self) -> bool:
        """Whether this step chooses what layers become, among what the wanted formats hold."""
        return False

    @property
    def own_bound(self) -> float | None:
        """The largest drop in quality that this step aims at where the job bounds none."""
        return None

    @property
    def sized_by_parameters(self) -> bool:
        """Whether what this step leaves is as large whatever the samples are, and without any."""
        return False

    @property
    def reads_chart(self) -> bool:
        """Whether this step uses what the model's chart of sensitivity says of layers."""
        return False

    @property
    def priced(self) -> "Step | None":
        """The step whose price list holds for this one too: this one without what it prefers.

        None for a step that makes no price list.
        """
        return None

    @property
    def times_layers(self) -> bool:
        """Whether this step times single layers in different forms."""
        return False

    @property
    def other_models(self) -> dict[str, str]:
        """The ids of models that this step reads besides the job's, by their place in it."""
        return {}

    @abstractmethod
    def forecast(self, graph: Outlook) -> Forecast:
        """Estimate what this step makes of a graph."""
