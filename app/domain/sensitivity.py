"""What each layer of a model loses and saves in each form that it may take: one chart a model."""

from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from app.domain.percentages import percent
from app.domain.reports import Machine

MAX_LAYERS = 400
"""Layers of a chart: the largest ones of a graph that has more."""

MAX_CONDITIONS = 500
"""Characters of what the times of a chart hold for."""

Kind = Literal["bits", "channels", "rank"]
"""What a form has less of."""


class Form(BaseModel):
    """Something that a layer may become, while all others stay as they are."""

    model_config = ConfigDict(frozen=True)

    name: str
    title: str
    """For people, such as ``half of the channels``."""
    kind: Kind
    value: float
    """Of ``bits`` how many a weight takes, of ``channels`` the share that is kept, of ``rank`` the
    share of the energy that is kept."""


FORMS: tuple[Form, ...] = (
    Form(name="int8", title="Computed in int8", kind="bits", value=8),
    Form(name="stored_float16", title="Stored in float16", kind="bits", value=16),
    Form(name="stored_int8", title="Stored in 8 bits", kind="bits", value=8),
    Form(name="stored_int4", title="Stored in 4 bits", kind="bits", value=4),
    Form(name="channels_75", title="75 % of the channels", kind="channels", value=0.75),
    Form(name="channels_50", title="50 % of the channels", kind="channels", value=0.5),
    Form(name="channels_25", title="25 % of the channels", kind="channels", value=0.25),
    Form(name="rank_95", title="Rank for 95 % of the energy", kind="rank", value=0.95),
    Form(name="rank_80", title="Rank for 80 % of the energy", kind="rank", value=0.8),
)
"""The columns of a chart, in order. A layer that is stored in few bits computes in float32."""


Name = Annotated[str, Field(max_length=2000)]
Words = Annotated[str, Field(max_length=2000)]


class ChartLayer(BaseModel):
    """A row of a chart: a node that holds weights."""

    model_config = ConfigDict(frozen=True)

    name: Name
    operator: Name
    parameters: int
    macs: int
    """Multiply-accumulates for one sample."""
    size_bytes: int
    """Of its weights as they are stored now."""
    latency_ms: FiniteFloat | None
    """Of one run of the layer by itself; null where it does not run alone."""


class Saved(BaseModel):
    """What a form saves; negative where it takes more."""

    model_config = ConfigDict(frozen=True)

    size_bytes: int
    macs: int
    """For one sample, over the whole graph: channels that go are read by other layers too."""
    latency_ms: FiniteFloat | None
    """Of one run; null where that is not known."""
    latency_from: Literal["measured", "same", "macs"] | None
    """``measured``: both forms of the layer were timed by themselves. ``same``: a run computes the
    same, as weights are floats again once they are loaded. ``macs``: computed, the model's time
    times the share of its multiply-accumulates that is saved."""


Cost = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Sensitivity(BaseModel):
    """A chart: layers down, forms across. Each matrix has a row a layer and a column a form.

    A cell is null where the layer cannot take the form; ``reasons`` then says why.
    """

    model_config = ConfigDict(frozen=True)

    layers: list[ChartLayer] = Field(max_length=MAX_LAYERS)
    forms: list[Form] = Field(max_length=100)
    cost: list[list[Cost | None]]
    """The share of the variance of the model's outputs that is lost where this layer alone takes
    the form: 0 is nothing, 1 is all. See ``fidelity.explained``."""
    answers: list[list[Cost | None]] | None
    """The share of samples whose class changes; null where the output holds neither class
    scores nor labels, or where nearly all samples have the same."""
    saved: list[list[Saved | None]]
    reasons: list[list[Words | None]]
    samples: int
    """How many costs were measured on; none of them is held out to judge results."""
    seed: int
    seconds: float
    """That the measurement took."""
    threads: int
    runtime: str
    machine: Machine
    versions: dict[str, str]
    notes: list[Words] = []

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        shape = [len(self.forms)] * len(self.layers)
        shapes = [
            [len(row) for row in matrix]
            for matrix in (self.cost, self.answers or self.cost, self.saved, self.reasons)
        ]
        if any(found != shape for found in shapes):
            raise ValueError("a matrix has not a row for each layer and a column for each form")
        return self

    @property
    def conditions(self) -> str:
        """What the times hold for, in words; no more than an index of the store takes."""
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{self.machine.processor}, {threads}, {self.runtime}"[:MAX_CONDITIONS]

    @property
    def summary(self) -> str:
        """What was measured, and the layer that loses most in int8, in a sentence or two."""
        count = len(self.layers)
        layers = "1 layer was" if count == 1 else f"{count} layers were"
        measured = f"{layers} compressed in {len(self.forms)} ways, each alone."
        worst = self.worst_of("int8")
        if worst is None:
            return measured
        name, lost = worst
        if not lost and self.answers is not None:
            return f"{measured} In int8 no layer alone changes an answer."
        verb, what = self.loss
        return f"{measured} In int8 '{name}' {verb}s most: {percent(lost, 2)} of {what}."

    @property
    def judged(self) -> list[list[Cost | None]]:
        """The shares that results are judged by: answers that change, where there are answers."""
        return self.cost if self.answers is None else self.answers

    @property
    def loss(self) -> tuple[str, str]:
        """What a layer does, and of what ``judged`` holds the share: a verb and its object."""
        if self.answers is None:
            return "lose", "the outputs' variance"
        return "change", "the answers"

    def worst_of(self, form: str) -> tuple[str, float] | None:
        """Return the layer that loses most in a form, and its share of ``judged``; None of none.

        Of layers that change as many answers, it is the one that loses more of the variance.
        """
        lost, costs = self.losses_of(form), self.costs_of(form)
        name = max(lost, key=lambda layer: (lost[layer], costs[layer]), default=None)
        return None if name is None else (name, lost[name])

    def losses_of(self, form: str) -> dict[str, float]:
        """Return the shares of ``judged`` of a form, by the layers that can take it."""
        return self._shares(self.judged, form)

    def costs_of(self, form: str) -> dict[str, float]:
        """Return the variance that a form costs, by the layers that can take it."""
        return self._shares(self.cost, form)

    def _shares(self, matrix: list[list[Cost | None]], form: str) -> dict[str, float]:
        places = [place for place, each in enumerate(self.forms) if each.name == form]
        return {
            layer.name: cost
            for layer, row in zip(self.layers, matrix, strict=True)
            for place in places
            if (cost := row[place]) is not None
        }


class ModelSensitivity(Sensitivity):
    """The chart of a model as clients see it, and what it holds for."""

    model: str
    dataset: str
    """The id of the dataset that was run; ``generated`` where samples were made from the model."""
    job: str
    """The job that measured it."""
    measured_at: AwareDatetime
