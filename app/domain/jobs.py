"""A compression job as it is asked for, the states that it has, and what it uses."""

from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic import Tag as PydanticTag

from app.domain.datasets import DatasetId
from app.domain.deployments import DEPLOYMENTS, with_defaults
from app.domain.devices import TargetName
from app.domain.fault_words import Said
from app.domain.frozen import Asked
from app.domain.generated import GeneratedData
from app.domain.metrics import Metric, Parameter
from app.domain.models import ModelId
from app.domain.request_parts import (
    Limits,
    Objective,
    OneOffWebhook,
    Require,
    Requires,
    Seed,
)
from app.domain.searches import DEFAULT_DROP
from app.domain.steps import AnyStep
from app.domain.targets import OUTPUT_FORMATS, OutputFormat

JobStatus = Literal["queued", "running", "succeeded", "failed", "cancelled"]

FINISHED: frozenset[str] = frozenset({"succeeded", "failed", "cancelled"})

MAX_STEPS = 16

EVALUATE_DATASET_POINTER = "#/evaluate/dataset"
"""The JSON pointer to the dataset of its own that a job is judged on."""

METRIC_GRAPH_POINTER = "#/evaluate/metric/model"
"""The JSON pointer to the model that computes a job's metric."""

Tag = Annotated[str, Field(min_length=1, max_length=64)]


class MetricGraph(Asked):
    """A metric of the user's own: an uploaded ONNX model whose inputs are named after outputs."""

    model: ModelId = Field(
        title="Or a model of yours that computes it",
        description="It gives a number for each sample, or one for all.",
    )


def _form(metric: object) -> str:
    return "name" if isinstance(metric, str) else "graph"


AnyMetric = Annotated[
    Annotated[Metric, PydanticTag("name")] | Annotated[MetricGraph, PydanticTag("graph")],
    Discriminator(_form),
]
"""A metric by its name, or a graph: so told apart, a wrong one has one fault at one place."""


class Evaluate(Asked):
    """How quality is measured, on samples that no step sees."""

    metric: AnyMetric | None = Field(
        default=None,
        description="A metric by name, or an uploaded model that computes one: its inputs are named"
        " after outputs of the job's model, 'targets', or 'reference.<output>' (the original's),"
        " and it gives a number for each sample, or one for all."
        " Default: top1 where targets are classes, mse where they are numbers.",
    )
    higher_is_better: bool = Field(
        title="More is better",
        default=True,
        description="Of a metric that a model computes; a drop of one where less is better is"
        " relative.",
    )
    output: str | None = Field(
        title="Output that is judged",
        default=None,
        max_length=512,
        description="The output that targets speak of. Default: the first.",
    )
    dataset: DatasetId | None = Field(
        title="Data to judge on",
        default=None,
        description="A dataset of its own to judge on; the job's dataset then trains and calibrates"
        " as a whole. Default: a part of the job's dataset is held out.",
    )
    threshold: float | None = Field(
        title="Threshold of a mask",
        default=None,
        allow_inf_nan=False,
        description="Of 'iou': what lies above it belongs to a mask. Default: 0.5.",
    )
    blank: int | None = Field(
        title="Class of no answer",
        default=None,
        ge=0,
        lt=1_000_000,
        description="Of 'cer': the class that stands for no answer in a network trained with CTC."
        " Default: there is none, and each position is an answer.",
    )

    @property
    def named_metric(self) -> Metric | None:
        """The metric, where it is asked for by name."""
        return None if isinstance(self.metric, MetricGraph) else self.metric

    @property
    def metric_graph(self) -> str | None:
        """The id of the model that computes the metric; None where none does."""
        return self.metric.model if isinstance(self.metric, MetricGraph) else None

    @property
    def parameters(self) -> dict[Parameter, float | None]:
        """The fields that belong to some metrics alone."""
        return {"threshold": self.threshold, "blank": self.blank}


_Delivered = Annotated[
    OutputFormat,
    Said("is no format: 'GET /v1/targets' lists those that this deployment delivers"),
]


def _once(formats: list[OutputFormat]) -> list[OutputFormat]:
    return list(dict.fromkeys(formats))


class JobRequest(Asked):
    """The body of ``POST /v1/jobs``."""

    model: str = Field(max_length=64)
    dataset: DatasetId | None = None
    data: GeneratedData | None = Field(
        default=None,
        description="'generated': samples are made from the model itself, in place of a dataset.",
    )
    name: str | None = Field(default=None, max_length=200)
    tags: list[Tag] = Field(
        default=[],
        max_length=20,
        description="Words of yours to find the job by: 'GET /v1/jobs?tag=' lists jobs with one.",
    )
    steps: list[AnyStep] | None = Field(
        default=None,
        max_length=MAX_STEPS,
        description="An empty list delivers the model as it is in other formats.",
    )
    objective: Objective | None = None
    measure: Literal["sensitivity"] | None = Field(
        default=None,
        description="In place of steps: what to measure of the model. 'sensitivity' is what each"
        " layer loses and saves in each form; see 'POST /v1/models/{model_id}/sensitivity'.",
    )
    evaluate: Evaluate = Field(title="How quality is measured", default=Evaluate())
    require: Require = Field(title="What must be kept", default=Require())
    target: TargetName | None = Field(
        title="Where it is to run",
        default=None,
        examples=[*DEPLOYMENTS],
        description="Where the model is to run: a deployment of 'GET /v1/targets', which says what"
        " is delivered and how steps quantize and cut where the request does not; a device of 'GET"
        " /v1/devices', which times the result; or a label that workers announce. Only workers that"
        " have it run the job. It is checked before anything runs. A format's name stands for that"
        " format in 'deliver'.",
    )
    deliver: Annotated[list[_Delivered], AfterValidator(_once)] = Field(
        title="Formats to download",
        default=["onnx"],
        min_length=1,
        max_length=2 * len(OUTPUT_FORMATS),
        description="The formats to download; each file is run on its own runtime and compared.",
    )
    webhook: OneOffWebhook | None = Field(title="Tell an address", default=None)
    limits: Limits = Field(title="Time limits", default=Limits())
    priority: int = Field(
        default=0, ge=-10, le=10, description="Among your own jobs: what is higher starts earlier."
    )
    requires: Requires = Field(title="What the worker must have", default=Requires())
    seed: Seed = 0

    @model_validator(mode="before")
    @classmethod
    def _as_its_target_asks(cls, body: object) -> object:
        return with_defaults(body) if isinstance(body, dict) else body

    @field_validator("objective")
    @classmethod
    def _not_beside_steps(
        cls, objective: Objective | None, given: ValidationInfo
    ) -> Objective | None:
        if objective is not None and given.data.get("steps") is not None:
            raise ValueError("give either 'steps' or 'objective'")
        return objective

    @field_validator("measure")
    @classmethod
    def _alone(cls, measure: str | None, given: ValidationInfo) -> str | None:
        if measure is not None and (
            given.data.get("steps") is not None or given.data.get("objective")
        ):
            raise ValueError("a job measures in place of 'steps' and 'objective': leave them out")
        return measure

    @model_validator(mode="after")
    def _has_work(self) -> Self:
        if self.steps is None and self.objective is None and self.measure is None:
            raise ValueError("give 'steps', 'objective' or 'measure'")
        return self

    @property
    def bound(self) -> float:
        """The loss of quality that a search allows: the least of those that are named."""
        named = [self.require.max_quality_drop]
        if self.objective is not None:
            named.append(self.objective.subject_to.max_quality_drop)
        return min((drop for drop in named if drop is not None), default=DEFAULT_DROP)

    @property
    def samples(self) -> str | None:
        """What the job's samples are: the id of its dataset, or ``generated``."""
        return self.dataset or self.data

    @property
    def datasets(self) -> dict[str, str]:
        """The ids of the datasets that the job reads, by the JSON pointer to their place."""
        named = {"#/dataset": self.dataset, EVALUATE_DATASET_POINTER: self.evaluate.dataset}
        return {pointer: dataset for pointer, dataset in named.items() if dataset is not None}

    @property
    def other_models(self) -> dict[str, str]:
        """The ids of the models that the job reads besides its own, by JSON pointer."""
        named = {
            f"#/steps/{index}/{place}": model_id
            for index, step in enumerate(self.steps or ())
            for place, model_id in step.other_models.items()
        }
        graph = self.evaluate.metric_graph
        return named if graph is None else {**named, METRIC_GRAPH_POINTER: graph}


class Usage(BaseModel):
    """What a job has used so far, over all its attempts."""

    model_config = ConfigDict(frozen=True)

    cpu_seconds: float = 0.0
    gpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
