"""What clients send: the body of a job, and the forms in which its parts may be given."""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from planish.types import Dataset, Device, Job, Model, Webhook

Step = Mapping[str, Any]
"""``{"method": "quantize", "mode": "static"}``; what is left out has a default."""


class JobOptions(TypedDict, total=False):
    """The other fields of a job's request; ``docs/api.md`` describes them."""

    objective: Mapping[str, Any]
    evaluate: Mapping[str, Any]
    require: Mapping[str, Any]
    deliver: Sequence[str]
    webhook: Mapping[str, Any]
    limits: Mapping[str, Any]
    name: str
    tags: Sequence[str]
    seed: int
    priority: int
    requires: Mapping[str, Any]
    target: str


def job_body(
    model: Model | str,
    steps: Sequence[Step] | None,
    dataset: Dataset | str | None,
    data: str | None,
    max_quality_drop: float | None,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the body of ``POST /v1/jobs``; a model or dataset, wherever it stands, is its id."""
    body: dict[str, Any] = {"model": id_of(model), "dataset": id_of(dataset) if dataset else None}
    if data is not None:
        body["data"] = data
    if steps is not None:
        body["steps"] = _plain(steps)
    body |= _plain(options)
    if max_quality_drop is not None:
        body["require"] = {**body.get("require", {}), "max_quality_drop": max_quality_drop}
    return body


def id_of(resource: Model | Dataset | Job | Webhook | Device | str) -> str:
    """Return the id of a resource that is given as itself or as its id."""
    return resource if isinstance(resource, str) else resource.id


def is_address(file: object) -> bool:
    """Return whether a file is named by an address that the service fetches from."""
    return isinstance(file, str) and file.startswith(("https://", "http://", "s3://"))


def joined(numbers: Sequence[float] | None) -> str | None:
    """Return numbers as a query parameter has them."""
    return ",".join(map(str, numbers)) if numbers is not None else None


def _plain(value: Any) -> Any:
    if isinstance(value, Model | Dataset):
        return value.id
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value
