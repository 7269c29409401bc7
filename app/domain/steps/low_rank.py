"""The parameters of ``low_rank``: a layer becomes a product of thinner ones."""

from math import prod
from typing import ClassVar, Literal

from pydantic import Field

from app.domain.models import Layer
from app.domain.steps.base import (
    ALL_SAVINGS,
    Forecast,
    Ignored,
    Needs,
    Outlook,
    Saving,
    Share,
    Step,
    left_alone,
    searched,
)
from app.domain.steps.recover import Afterwards, training_minutes

FACTORIZED = ("Conv", "Gemm", "MatMul")
"""The operators whose weights are replaced by thinner ones."""

LEAST_CHANNELS = 8
"""The least channels of a layer on either side; below that there is nothing to save."""


GROUPED = "it is depthwise or grouped: its channels are few already"
NARROW = f"it has fewer than {LEAST_CHANNELS} channels on one side"


def _unfit(layer: Layer) -> str | None:
    if layer.operator not in FACTORIZED:
        return f"{layer.operator} is not factorised"
    if layer.groups > 1:
        return GROUPED
    if layer.parameters < LEAST_CHANNELS**2 * prod(layer.kernel):
        return NARROW
    return None


class LowRank(Step):
    """Replace layers by two or three thinner ones whose product is near.

    A layer is replaced only where that saves MACs; with ``of: latency`` only where it saves time on
    the worker.
    """

    title: ClassVar[str] = "Low-rank factorisation"
    gentler: ClassVar[str] = "lower 'ratio' or raise 'energy', or train afterwards ('recover')"
    provides: ClassVar[tuple[str, ...]] = ("factorized",)
    refuses: ClassVar[tuple[str, ...]] = ("quantized", "clustered", "sparse")

    method: Literal["low_rank"] = "low_rank"
    decomposition: Literal["auto", "svd", "tucker2", "cp", "spatial_svd"] = Field(
        title="Kind of factors",
        default="auto",
        description="'auto' takes svd for products and the best that fits for convolutions.",
    )
    ratio: Share = Field(
        title="Share to remove",
        default=0.5,
        description="The fraction of 'of' that is removed, over the whole model.",
        json_schema_extra=searched(low=0.1, high=0.9),
    )
    of: Literal["macs", "parameters", "size", "latency"] = Field(
        title="Share of what",
        default="macs",
        description="What 'ratio' is a fraction of; latency is measured on the worker.",
    )
    rank: Literal["auto", "sensitivity", "ratio", "energy", "vbmf"] = Field(
        title="How ranks are chosen",
        default="auto",
        description="'sensitivity' and 'ratio' spread the budget that 'ratio' leaves: by what each"
        " layer's replacement does to the model's outputs on data, or by the layers' own errors."
        " 'auto' is the first where there is data and the graph has gradients. Without a budget:"
        " by the share of energy kept, or by variational Bayes (Nakajima 2013).",
    )
    energy: Share | None = Field(
        title="Share of the energy to keep",
        default=None,
        description="The share of squared singular values kept in each layer; sets 'rank'."
        " Default with rank 'energy': 0.9.",
    )
    whiten: bool = Field(
        title="Weigh errors by activations",
        default=True,
        description="Weigh errors by the activations seen on data, where there is a dataset.",
    )
    calibration_samples: int = Field(
        title="Samples to look at",
        default=128,
        ge=1,
        le=10_000,
        description="Training samples that whitening and sensitivity look at.",
    )
    ignore: Ignored = Field(default=[])
    recover: Afterwards = None

    @property
    def place(self) -> int:
        """After channels are gone: ranks of the layers that are left."""
        return 2

    @property
    def saves(self) -> frozenset[Saving]:
        """Thinner layers take fewer bytes, less work and less time."""
        return ALL_SAVINGS

    @property
    def has_budget(self) -> bool:
        """Whether layers compete for what ``ratio`` leaves; else each finds ranks of its own."""
        return self.energy is None and self.rank not in ("energy", "vbmf")

    @property
    def times_layers(self) -> bool:
        """Layers are timed where the ratio is one of time."""
        return self.has_budget and self.of == "latency"

    @property
    def needs(self) -> Needs:
        """Sensitivity needs inputs and gradients, recovery what it asks for; factors need none."""
        if self.recover is not None:
            return self.recover.needs
        sensed = self.has_budget and self.rank == "sensitivity"
        return Needs(data="inputs" if sensed else "none", trainable=sensed)

    def forecast(self, graph: Outlook) -> Forecast:
        """Estimate the file and the MACs that are left."""
        share = 1 - self.ratio
        return Forecast(
            size_bytes=int(graph.size_bytes * share),
            macs=int(graph.macs * share),
            minutes=round(0.1 + training_minutes(self.recover, graph.macs, graph.samples), 3),
            skipped=left_alone(graph.layers, self.ignore, _unfit),
        )
