"""The parameters of ``prune``: weights, channels and blocks that do little are taken away."""

from typing import Annotated, ClassVar, Literal, Self, assert_never

from pydantic import Field, model_validator

from app.domain.criteria import CRITERIA, Criterion, Granularity
from app.domain.models import Layer
from app.domain.steps.base import (
    ALL_SAVINGS,
    Forecast,
    Ignored,
    Multiple,
    Needs,
    Outlook,
    Saving,
    Share,
    Step,
    left_alone,
    searched,
)
from app.domain.steps.recover import Afterwards, training_minutes

_WITH_POSITION = 1.15
"""Times the bytes of a weight that one takes which is stored with its position."""

ZEROED = ("Conv", "ConvTranspose", "GRU", "Gemm", "LSTM", "MatMul", "RNN")
"""The operators whose weights become zero one by one."""


class Prune(Step):
    """Take away what contributes least.

    ``channel`` removes whole channels, neurons and attention heads with everything that is coupled
    to them: the graph becomes smaller and faster everywhere. ``unstructured``, ``n:m`` and
    ``block`` set weights to zero and keep every shape.
    """

    title: ClassVar[str] = "Pruning"
    gentler: ClassVar[str] = "prune a smaller part, or train afterwards ('recover')"
    provides: ClassVar[tuple[str, ...]] = ("pruned", "sparse")
    refuses: ClassVar[tuple[str, ...]] = ("quantized", "clustered")

    method: Literal["prune"] = "prune"
    granularity: Granularity = Field(
        title="What is removed",
        default="channel",
        description="What is removed as a whole.",
        json_schema_extra=searched(choices=["channel", "unstructured"]),
    )
    criterion: Criterion = Field(
        title="What counts as unimportant",
        default="auto",
        json_schema_extra=searched(
            choices=["auto", "magnitude"], when={"granularity": ["channel"]}
        ),
        description="What tells how much something contributes. 'auto' is, for channels, hessian"
        " where there is data and the graph has gradients, else magnitude; for weights obc where"
        " there is data and all go at once, else lamp.",
    )
    norm: Literal["l1", "l2"] = Field(
        title="Norm of weights", default="l2", description="The norm of 'magnitude'."
    )
    scope: Literal["global", "layer", "learned"] = Field(
        title="How layers share the cut",
        default="global",
        description="Whether layers compete, each loses the same share, or the shares of channels"
        " are learned on data: episodes try what comes nearest to the outputs (AMC, He 2018).",
    )
    ratio: Share = Field(
        title="Share to remove",
        default=0.5,
        description="The fraction of 'of' that channel pruning removes.",
        json_schema_extra=searched(low=0.1, high=0.9, when={"granularity": ["channel"]}),
    )
    of: Literal["macs", "parameters", "size", "latency", "channels"] = Field(
        title="Share of what",
        default="macs",
        description="What 'ratio' is a fraction of; latency is measured on the worker.",
    )
    multiple: Multiple | None = Field(
        title="Channels in multiples of",
        default=None,
        description="For 'channel': each layer that is cut keeps a multiple of so many channels,"
        " for which kernels are fast. A layer with less than twice as many keeps a multiple of 8,"
        " or any number below 16. Default: what the job's 'target' asks for, or 8; less where 8"
        " would remove much more than 'ratio'.",
    )
    sparsity: Share = Field(
        title="Share of weights to zero",
        default=0.5,
        description="The fraction of weights set to zero by 'unstructured' and 'block'.",
        json_schema_extra=searched(low=0.3, high=0.95, when={"granularity": ["unstructured"]}),
    )
    n: int = Field(
        title="Weights kept in a group",
        default=2,
        ge=1,
        le=64,
        description="Weights kept of each m, for 'n:m'.",
    )
    m: int = Field(
        title="Weights in a group",
        default=4,
        ge=2,
        le=128,
        description="Neighbours in a group, for 'n:m'.",
    )
    block: list[Annotated[int, Field(ge=1, le=256)]] = Field(
        title="Size of a block",
        default=[16, 1],
        min_length=2,
        max_length=2,
        description="Output and input channels of a block, for 'block'.",
    )
    schedule: Literal["one_shot", "iterative", "polynomial"] = Field(
        title="How it is spread over the training",
        default="one_shot",
        description="All at once, in equal parts, or along a cubic curve (Zhu & Gupta 2017); the"
        " last two train in between and so need 'recover'.",
    )
    iterations: int = Field(
        title="Parts of the schedule",
        default=5,
        ge=2,
        le=100,
        description="Parts of the iterative and polynomial schedules.",
    )
    initial_sparsity: float = Field(
        title="Share at the beginning",
        default=0.0,
        ge=0,
        lt=1,
        allow_inf_nan=False,
        description="Where the polynomial schedule begins.",
    )
    final_sparsity: Share | None = Field(
        title="Share at the end",
        default=None,
        description="Where the polynomial schedule ends. Default: 'ratio' or 'sparsity'.",
    )
    begin: float = Field(
        title="Begin after this share of the training",
        default=0.0,
        ge=0,
        le=1,
        description="Share of training before the schedule starts.",
    )
    end: float = Field(
        title="End after this share of the training",
        default=0.5,
        ge=0,
        le=1,
        description="Share of training when it is done.",
    )
    reconstruct: bool = Field(
        title="Fit what is left",
        default=True,
        description="Fit the layers to what is left by least squares, where there is data.",
    )
    ignore: Ignored = Field(default=[])
    recover: Afterwards = None

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.scope == "learned" and self.granularity != "channel":
            raise ValueError("scope 'learned' chooses widths: use granularity 'channel'")
        if self.scope == "learned" and self.schedule != "one_shot":
            raise ValueError("scope 'learned' chooses once: use schedule 'one_shot'")
        if self.granularity == "n:m" and self.n >= self.m:
            raise ValueError("'n' of 'm' weights are kept, so n must be less than m")
        if reason := self._unfit_criterion():
            raise ValueError(reason)
        if self.granularity == "n:m" and self.schedule != "one_shot":
            raise ValueError("n of m weights are kept from the first: use schedule 'one_shot'")
        if self.schedule != "one_shot" and self.recover is None:
            raise ValueError(f"schedule '{self.schedule}' trains in between: add 'recover'")
        last = self.ratio if self.granularity == "channel" else self.sparsity
        if self.initial_sparsity >= (self.final_sparsity or last):
            raise ValueError("'initial_sparsity' must be less than what is pruned in the end")
        if self.begin >= self.end:
            raise ValueError("'begin' must be less than 'end'")
        return self

    def _unfit_criterion(self) -> str | None:
        """Say why the criterion does not go with the other parameters."""
        row = CRITERIA[self.criterion]
        if self.granularity not in row.granularities:
            if self.granularity == "channel":
                return (
                    f"criterion '{self.criterion}' compares single weights: use '{row.instead}' for"
                    " channels"
                )
            return (
                f"criterion '{self.criterion}' compares whole channels: use granularity 'channel',"
                f" or '{row.instead}'"
            )
        if row.fits_once and (self.schedule != "one_shot" or not self.reconstruct):
            return (
                f"criterion '{self.criterion}' fits what it keeps, once: use schedule 'one_shot'"
                " and 'reconstruct'"
            )
        return None

    @property
    def place(self) -> int:
        """Channels go early, zeros after what changes shapes."""
        return 1 if self.granularity == "channel" else 3

    @property
    def saves(self) -> frozenset[Saving]:
        """Fewer channels take less of everything; zeros take fewer bytes, and the same time."""
        return ALL_SAVINGS if self.granularity == "channel" else frozenset({"size"})

    @property
    def traits(self) -> tuple[str, ...]:
        """Channels are gone for good; zeros must be kept by what comes after."""
        return ("pruned",) if self.granularity == "channel" else ("pruned", "sparse")

    @property
    def times_layers(self) -> bool:
        """Layers are timed where the ratio is one of time."""
        return self.granularity == "channel" and self.of == "latency"

    @property
    def needs(self) -> Needs:
        """Criteria that look at activations or gradients need inputs, recovery what it asks for."""
        if self.recover is not None:
            return self.recover.needs
        match CRITERIA[self.criterion].source:
            case "nothing" | "weights":
                return Needs(data="inputs" if self.scope == "learned" else "none")
            case "activations":
                return Needs(data="inputs")
            case "gradients":
                return Needs(data="inputs", trainable=True)
            case source:
                assert_never(source)

    @property
    def _zeros(self) -> float:
        """The share of weights that is to become zero."""
        if self.granularity == "n:m":
            return 1 - self.n / self.m
        return self.sparsity if self.final_sparsity is None else self.final_sparsity

    def _unfit(self, layer: Layer) -> str | None:
        if self.granularity == "channel" or layer.operator in ZEROED:
            return None
        return f"the weights of {layer.operator} are not pruned one by one"

    def forecast(self, graph: Outlook) -> Forecast:
        """Estimate the file and the MACs that are left; a value besides zeros has a position."""
        channels = self.granularity == "channel"
        share = min(1.0, (1 - self._zeros) * _WITH_POSITION)
        return Forecast(
            size_bytes=int(graph.size_bytes * (1 - self.ratio if channels else share)),
            macs=int(graph.macs * (1 - self.ratio if channels else 1.0)),
            minutes=round(0.1 + training_minutes(self.recover, graph.macs, graph.samples), 3),
            skipped=left_alone(graph.layers, self.ignore, self._unfit),
        )
