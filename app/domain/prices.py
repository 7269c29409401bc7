"""What steps that choose among forms have measured of a model, as clients read it."""

from typing import Any

from pydantic import AwareDatetime

from app.domain.frozen import Frozen
from app.domain.reports import Choice, LayerPrice


class StepPrices(Frozen):
    """What one step measured: the graphs that it chose from, and layers by themselves."""

    job: str
    step: int
    """Its index among the steps of the job, from 0."""
    parameters: dict[str, Any]
    """The step, as the job asks for it."""
    submitted_at: AwareDatetime
    """When the job was submitted."""
    choices: list[Choice]
    layers: list[LayerPrice]
    """In the form that was chosen, in the graph's order."""
    others: list[LayerPrice]
    """In forms that were not chosen, or are of a part of the layers, form after form. ``quantized``
    says whether the layer was, in the graph of that form."""


class ModelPrices(Frozen):
    """The latest prices of a model, the newest job first."""

    model: str
    steps: list[StepPrices]
