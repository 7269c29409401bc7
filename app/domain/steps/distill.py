"""The parameters of ``distill``: a smaller model learns from a larger one."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from app.domain import layouts
from app.domain.fault_words import SAID, Said
from app.domain.frozen import Asked
from app.domain.models import ModelId
from app.domain.steps.base import (
    ALL_SAVINGS,
    Forecast,
    Multiple,
    Needs,
    Outlook,
    Saving,
    Share,
    Step,
    searched,
)
from app.domain.steps.recover import EPOCHS, MIXED_LABELS, Recover, training_minutes


class Architecture(Asked):
    """A compact network that is built for the task: its layout follows what the model reads."""

    architecture: Literal[
        "mobilenet_v2", "mobilenet_v3", "shufflenet_v2", "resnet_cifar", "mlp", "transformer"
    ] = Field(title="A network of this kind", description="It is built from nothing.")
    width: float | None = Field(
        title="Times as many channels",
        default=None,
        gt=0,
        le=4,
        allow_inf_nan=False,
        description="Multiplies every channel count. Default: 1, or what meets 'ratio'.",
    )
    ratio: Share | None = Field(
        title="Share to do without",
        default=None,
        description="The fraction of the teacher that the student does without; the largest width"
        " that meets it is found.",
    )
    of: Literal["macs", "parameters", "size", "latency"] = Field(
        title="Share of what",
        default="macs",
        description="What 'ratio' is a fraction of; latency is measured.",
    )

    @model_validator(mode="after")
    def _one_way_to_say_how_wide(self) -> Self:
        if self.width is not None and self.ratio is not None:
            raise ValueError("'width' and 'ratio' say the same: leave one of them out")
        return self

    @property
    def known_width(self) -> float | None:
        """The factor of the channels; None if it is to be found."""
        return 1.0 if self.width is None and self.ratio is None else self.width


class Uploaded(Asked):
    """Another model of the tenant, with the same inputs and outputs."""

    model: ModelId = Field(
        title="Or another model of yours",
        description="An upload with the inputs and outputs of the job's model.",
    )


class Scale(Asked):
    """What is kept: of each layer's channels, and of the residual blocks."""

    width: float = Field(
        title="Share of the channels to keep",
        default=0.5,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="Of each layer's channels. Default: all where 'depth' is given, else half.",
    )
    depth: float = Field(
        title="Share of the blocks to keep",
        default=1.0,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="Of the residual blocks.",
    )

    @model_validator(mode="before")
    @classmethod
    def _depth_alone_keeps_the_width(cls, values: object) -> object:
        if isinstance(values, dict) and "depth" in values:
            return {"width": 1.0, **values}
        return values


class Derived(Asked):
    """The graph that the step is given, narrower and shallower; weights are inherited."""

    derive: Scale = Field(
        title="Or this model, narrower",
        default=Scale(),
        description="Its weights are inherited.",
    )


_FORMS: Mapping[str, tuple[str, type[Asked]]] = {
    "architecture": ("built", Architecture),
    "model": ("uploaded", Uploaded),
    "derive": ("derived", Derived),
}
"""The forms of a student, and their classes, by the field that only one of them has."""


def _form(student: object) -> str | None:
    return next(
        (
            form
            for field, (form, kind) in _FORMS.items()
            if isinstance(student, kind) or (isinstance(student, Mapping) and field in student)
        ),
        None,
    )


Student = Annotated[
    Annotated[Architecture, Tag("built")]
    | Annotated[Uploaded, Tag("uploaded")]
    | Annotated[Derived, Tag("derived")],
    Discriminator(
        _form,
        custom_error_type=SAID,
        custom_error_message="must have one of the fields 'architecture', 'model' and 'derive'",
    ),
]
"""A network that learns; so told apart, a wrong one has its faults at their places alone."""


class DistillLoss(Asked):
    """One term of the sum that the student minimises."""

    kind: Literal["soft_targets", "labels", "features", "attention", "relational"] = Field(
        title="What is compared",
        description="Softened outputs, labels, inner layers, where layers look, or the distances"
        " between samples.",
    )
    weight: float = Field(
        default=1.0,
        gt=0,
        le=1e6,
        allow_inf_nan=False,
        description="How much the term counts in the sum.",
    )
    temperature: float = Field(
        default=4.0, gt=0, le=100, allow_inf_nan=False, description="Of soft targets."
    )


class Distill(Step):
    """Train a student to answer as the teacher does.

    ``soft_targets`` (Hinton 2015) match softened outputs, ``features`` (FitNets) inner layers
    through learned projections, ``attention`` (Zagoruyko 2017) where layers look, ``relational``
    (RKD 2019) the distances between samples. Unlabelled data is enough.
    """

    title: ClassVar[str] = "Distillation"
    gentler: ClassVar[str] = "ask for a larger student, or let it learn longer ('recover')"
    provides: ClassVar[tuple[str, ...]] = ("distilled",)
    refuses: ClassVar[tuple[str, ...]] = ("quantized", "clustered")

    method: Literal["distill"] = "distill"
    student: Student = Field(
        title="The student",
        default=Derived(),
        description="The network that learns.",
        json_schema_extra=searched(
            within={
                "derive.width": {"low": 0.3, "high": 1.0},
                "derive.depth": {"choices": [1.0, 0.75, 0.5]},
            }
        ),
    )
    multiple: Multiple | None = Field(
        title="Channels in multiples of",
        default=None,
        description="For 'derive': each layer that is cut keeps a multiple of so many channels, as"
        " with 'prune'. Default: what the job's 'target' asks for, or 8.",
    )
    teacher: Annotated[
        Literal["original", "previous"] | ModelId,
        Said("must be 'original', 'previous', or the id of a model, which begins with mdl_"),
    ] = Field(
        title="The teacher",
        default="original",
        description="The job's model, the previous step's result, or another model of yours.",
    )
    losses: list[DistillLoss] | None = Field(
        title="What it learns from",
        default=None,
        min_length=1,
        max_length=5,
        description="The terms of a sum. Default: soft targets, and the labels where the dataset"
        " has classes as targets and images are not mixed.",
    )
    recover: Recover = Field(
        title="How it is trained",
        default=Recover(),
        description="How the student is trained.",
        json_schema_extra=searched(within=EPOCHS),
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        kinds = [loss.kind for loss in self.losses or []]
        if len(set(kinds)) < len(kinds):
            raise ValueError("each kind of loss may be named once")
        if self.recover.loss is not None:
            raise ValueError("'losses' says what is minimised: leave 'recover.loss' out")
        if "labels" in kinds and self.recover.mixes:
            raise ValueError(MIXED_LABELS)
        return self

    @property
    def place(self) -> int:
        """First: what comes after works on the student."""
        return 0

    @property
    def saves(self) -> frozenset[Saving]:
        """A smaller network takes fewer bytes, less work and less time."""
        return ALL_SAVINGS

    @property
    def other_models(self) -> dict[str, str]:
        """The student and the teacher, where they are other models of the tenant."""
        models = {}
        if isinstance(self.student, Uploaded):
            models["student/model"] = self.student.model
        if self.teacher not in ("original", "previous"):
            models["teacher"] = self.teacher
        return models

    @property
    def needs(self) -> Needs:
        """Every loss needs inputs; ``labels`` needs targets."""
        labels = any(loss.kind == "labels" for loss in self.losses or [])
        return Needs(data="targets" if labels else "inputs", trainable=True)

    def forecast(self, graph: Outlook) -> Forecast:
        """Estimate the student from the teacher; of another network little is known before."""
        share, remarks = 1.0, list[str]()
        if isinstance(self.student, Derived):
            share = self.student.derive.width**2 * self.student.derive.depth
        if isinstance(self.student, Architecture):
            share = 1.0 - (self.student.ratio or 0.0)
            width = self.student.known_width
            student = layouts.describe(self.student.architecture, width, graph.inputs)
            remarks.append(f"The student is {student}.")
        return Forecast(
            size_bytes=int(graph.size_bytes * share),
            macs=int(graph.macs * share),
            remarks=remarks,
            minutes=round(0.1 + 2 * training_minutes(self.recover, graph.macs, graph.samples), 3),
        )
