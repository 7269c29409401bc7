"""The steps that a request may name: one module a method, listed once, here."""

from typing import Annotated

from pydantic import Field

from app.domain.steps.ahead import forecasts
from app.domain.steps.base import Forecast, Needs, Outlook, Skipped, Step, matches
from app.domain.steps.cluster import Cluster
from app.domain.steps.distill import Distill
from app.domain.steps.elastic import Subnet, Supernet
from app.domain.steps.low_rank import LowRank
from app.domain.steps.prune import Prune
from app.domain.steps.quantize import Quantize, RangeRule

AnyStep = Annotated[
    Cluster | Distill | LowRank | Prune | Quantize | Subnet | Supernet,
    Field(discriminator="method"),
]
"""Any step of a request."""

METHODS: tuple[type[Step], ...] = (
    Cluster, Distill, LowRank, Prune, Quantize, Subnet, Supernet,
)  # fmt: skip

__all__ = [
    "METHODS",
    "AnyStep",
    "Cluster",
    "Distill",
    "Forecast",
    "LowRank",
    "Needs",
    "Outlook",
    "Prune",
    "Quantize",
    "RangeRule",
    "Skipped",
    "Step",
    "Subnet",
    "Supernet",
    "forecasts",
    "matches",
]
