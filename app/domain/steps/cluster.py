"""The parameters of ``cluster``: weights share a few values."""

from typing import ClassVar, Literal

from pydantic import Field

from app.domain.models import Layer
from app.domain.steps.base import (
    Forecast,
    Ignored,
    Needs,
    Outlook,
    Saving,
    Step,
    left_alone,
    searched,
)
from app.domain.steps.recover import Afterwards, training_minutes

LEAST_WEIGHTS = 512
"""The least weights of a tensor; below that a codebook takes as much as it saves."""


def _unfit(layer: Layer) -> str | None:
    if layer.parameters >= LEAST_WEIGHTS:
        return None
    return f"it has {layer.parameters} weights: a codebook would save nothing"


class Cluster(Step):
    """Replace each weight by the nearest of a few values, and store which one.

    The graph holds a codebook and indices for each tensor (Deep Compression, Han 2016); the runtime
    looks the weights up, so that the file is smaller as it stands.
    """

    title: ClassVar[str] = "Weight sharing"
    gentler: ClassVar[str] = (
        "let weights share more values ('clusters'), or train afterwards ('recover')"
    )
    provides: ClassVar[tuple[str, ...]] = ("clustered",)
    refuses: ClassVar[tuple[str, ...]] = ("quantized", "clustered")

    method: Literal["cluster"] = "cluster"
    clusters: int = Field(
        title="Values of each tensor",
        default=16,
        ge=2,
        le=256,
        description="Values of each tensor; up to 16 take 4 bits each.",
        json_schema_extra=searched(low=4, high=256, log=True),
    )
    ignore: Ignored = Field(default=[])
    recover: Afterwards = Field(
        default=None, description="Training of the codebooks afterwards; indices stay."
    )

    @property
    def place(self) -> int:
        """After what changes shapes."""
        return 4

    @property
    def saves(self) -> frozenset[Saving]:
        """Indices take fewer bytes; the runtime looks them up, and computes as before."""
        return frozenset({"size"})

    @property
    def needs(self) -> Needs:
        """Clusters are found in the weights; recovery needs what it asks for."""
        return self.recover.needs if self.recover else Needs(data="none")

    def forecast(self, graph: Outlook) -> Forecast:
        """Estimate the file; MACs stay."""
        bits = 4 if self.clusters <= 16 else 8
        weights = sum(layer.parameters for layer in graph.layers)
        return Forecast(
            size_bytes=max(graph.size_bytes - weights * (32 - bits) // 8, graph.size_bytes // 8),
            macs=graph.macs,
            minutes=round(0.1 + training_minutes(self.recover, graph.macs, graph.samples), 3),
            skipped=left_alone(graph.layers, self.ignore, _unfit),
        )
