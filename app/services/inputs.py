"""What a request names, and what the deployment can do, at the moment of the request."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from app.domain.datasets import DatasetDescription
from app.domain.jobs import EVALUATE_DATASET_POINTER
from app.domain.models import ModelDescription
from app.domain.problems import Problem
from app.domain.request_parts import DeviceKind

Description = TypeVar("Description", ModelDescription, DatasetDescription)


@dataclass(frozen=True)
class Upload(Generic[Description]):
    """The state of a model or dataset at this moment."""

    id: str
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
    target_fault: tuple[type[Problem], str] | None = None
    """Why nothing can be measured for the job's ``target``, and the kind of problem that it is."""
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
