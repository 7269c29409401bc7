"""What a request names, and what the deployment can do, at the moment of the request."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from sqlalchemy.orm import Session

from app.domain.addresses import Network
from app.domain.datasets import DatasetDescription
from app.domain.jobs import EVALUATE_DATASET_POINTER, JobRequest
from app.domain.models import ModelDescription
from app.domain.problems import FieldError, Invalid, Problem
from app.domain.request_parts import DeviceKind
from app.services import datasets, models, targets, webhooks
from app.store import lookup, overheads, workers
from app.store.tables import DatasetRow, ModelRow

Description = TypeVar("Description", ModelDescription, DatasetDescription)


@dataclass(frozen=True)
class Upload(Generic[Description]):
    """The state of a model or dataset at this moment."""

    id: str
    called: str
    """What it is called, to begin a sentence with: by its own name, else by its id."""
    sha256: str
    size_bytes: int
    rejected: str | None
    """Why the inspection rejected it."""
    description: Description | None
    """Its description; None until it is inspected."""


@dataclass(frozen=True)
class Inputs:
    """The models and datasets of a request, and the abilities of the deployment."""

    model: Upload[ModelDescription]
    dataset: Upload[DatasetDescription] | None
    evaluate_dataset: Upload[DatasetDescription] | None
    """The dataset for the evaluation, if the request names one."""
    targets: frozenset[str]
    """The output formats that workers have announced."""
    besides_seconds: float
    """What a job on the model is expected to take besides its steps."""
    target_fault: tuple[type[Problem], str] | None = None
    """Why nothing can be measured for the job's ``target``, and the kind of problem that it is."""
    webhook_fault: str | None = None
    """Why the address of the job's webhook is refused."""
    workers: Sequence[tuple[DeviceKind, Sequence[str]]] = ()
    """The kind of device and the labels of each worker that takes jobs."""
    other_models: Mapping[str, Upload[ModelDescription]] = field(default_factory=dict)
    """The other models that the request names, by JSON pointer."""

    @property
    def datasets(self) -> dict[str, Upload[DatasetDescription]]:
        """The datasets that the request names, by JSON pointer."""
        named = {"#/dataset": self.dataset, EVALUATE_DATASET_POINTER: self.evaluate_dataset}
        return {pointer: upload for pointer, upload in named.items() if upload is not None}

    @property
    def judged(self) -> Upload[DatasetDescription] | None:
        """The dataset for the evaluation, which uses all or a part of its samples."""
        return self.evaluate_dataset or self.dataset


def look_up(
    session: Session, tenant: str, request: JobRequest, admitted: Iterable[Network] = ()
) -> Inputs:
    """Look up what the request names, and lock it against deletion until commit.

    Args:
        session: of the transaction.
        tenant: whose request it is.
        request: the request.
        admitted: the private networks that webhooks may call.

    Raises:
        Invalid: The request names a model or dataset that is not the tenant's. What is wrong with
            its target and its webhook is said as well: a client may ask before it uploads.
    """
    named_models = {"#/model": request.model, **request.other_models}
    model_rows = {
        pointer: lookup.find(session, ModelRow, tenant, named, "keep")
        for pointer, named in named_models.items()
    }
    dataset_rows = {
        pointer: lookup.find(session, DatasetRow, tenant, named, "keep")
        for pointer, named in request.datasets.items()
    }
    unknown = [
        FieldError(pointer=pointer, detail=f"There is no {kind} {named[pointer]!r}.")
        for kind, named, rows in (
            ("model", named_models, model_rows),
            ("dataset", request.datasets, dataset_rows),
        )
        for pointer, row in rows.items()
        if row is None
    ]
    target_fault = targets.fault(session, tenant, request)
    hook = request.webhook
    webhook_fault = None if hook is None else webhooks.refusal(hook.url, admitted)
    if unknown:
        if webhook_fault:
            unknown.append(FieldError(pointer="#/webhook/url", detail=webhook_fault))
        if target_fault:
            unknown.append(FieldError(pointer="#/target", detail=target_fault[1]))
        raise Invalid(" ".join(fault.detail for fault in unknown), errors=unknown)
    other_models = {
        pointer: _upload(row, models.described(row)) for pointer, row in model_rows.items() if row
    }
    data = {
        pointer: _upload(row, datasets.described(row))
        for pointer, row in dataset_rows.items()
        if row
    }
    return Inputs(
        model=other_models.pop("#/model"),
        dataset=data.get("#/dataset"),
        evaluate_dataset=data.get(EVALUATE_DATASET_POINTER),
        targets=targets.deliverable(session),
        besides_seconds=overheads.seconds(session, tenant, request.model),
        target_fault=target_fault,
        webhook_fault=webhook_fault,
        workers=workers.offers(session),
        other_models=other_models,
    )


def _upload(row: ModelRow | DatasetRow, description: Description | None) -> Upload[Description]:
    sha256 = row.sha256 if row.size_bytes else row.id  # nothing is known of what is not here yet
    return Upload(row.id, _called(row), sha256, row.size_bytes, _rejected(row), description)


def _called(row: ModelRow | DatasetRow) -> str:
    kind = "Model" if isinstance(row, ModelRow) else "Dataset"
    name = row.name or row.filename
    return f"{kind} “{name}”" if name else f"{kind} {row.id}"


def _rejected(row: ModelRow | DatasetRow) -> str | None:
    return None if row.status != "rejected" else str((row.problem or {}).get("detail"))
