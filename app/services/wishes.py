"""What somebody asks advice for, and the requests that say so."""

import json
from dataclasses import dataclass
from typing import Any

from app.domain.deployments import AnyTarget
from app.domain.generated import GENERATED
from app.domain.jobs import JobRequest
from app.domain.recommendations import Minimize


@dataclass(frozen=True)
class Wish:
    """What somebody asks advice for."""

    minimize: Minimize = "latency"
    max_quality_drop: float | None = None
    target: AnyTarget | None = None
    data: str | None = None
    """The id of a dataset; ``generated`` for samples that are made from the model."""


def body_of(model_id: str, wish: Wish, steps: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the body of a request of steps; what is not wished is left out."""
    body = about(model_id, wish) | {"steps": steps}
    if wish.max_quality_drop is not None:
        body["require"] = {"max_quality_drop": wish.max_quality_drop}
    return body


def about(model_id: str, wish: Wish) -> dict[str, Any]:
    """Return what every request names: the model, the data, the target."""
    body: dict[str, Any] = {"model": model_id}
    if wish.data is not None:
        body["data" if wish.data == GENERATED else "dataset"] = wish.data
    if wish.target is not None:
        body["target"] = wish.target
    return body


def request_of(body: dict[str, Any]) -> JobRequest:
    """Return a body as the request that it makes, read as the API reads it."""
    return JobRequest.model_validate_json(json.dumps(body))
