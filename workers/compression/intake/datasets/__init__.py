"""Datasets: describes an upload, and writes the arrays that feed a model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain import contents
from app.domain.datasets import DatasetDescription, ImageOptions, Targets, require_match
from app.domain.models import TensorSpec
from app.domain.problems import InvalidDataset
from workers.compression.intake.datasets import images, npz, parquet
from workers.compression.intake.datasets.arrays import Arrays
from workers.compression.intake.formats.detect import head_of
from workers.compression.intake.limits import DatasetLimits


@dataclass(frozen=True)
class Data:
    """A dataset fitted to a model: memory-mapped arrays whose first axis is the sample."""

    inputs: dict[str, NDArray[Any]]
    """One array for each model input, in the order of the inputs, with their dtypes."""
    targets: NDArray[Any] | None
    """The targets: int64 classes or float32 values; None without targets."""
    description: DatasetDescription

    def __len__(self) -> int:
        return self.description.samples


@dataclass(frozen=True)
class _Format:
    """The two phases of reading a dataset."""

    describe: Callable[[Path, DatasetLimits], DatasetDescription]
    arrays: Callable[[Path, Sequence[TensorSpec], Path, ImageOptions, DatasetLimits], Arrays]


FORMATS: dict[str, _Format] = {
    "npz": _Format(npz.describe, npz.arrays),
    "parquet": _Format(parquet.describe, parquet.arrays),
    "images": _Format(images.describe, images.arrays),
}


def inspect_dataset(upload: Path, limits: DatasetLimits | None = None) -> DatasetDescription:
    """Check an uploaded dataset and describe it.

    Raises:
        InvalidDataset: the dataset is broken; the message says what to upload instead.
    """
    return _format(upload).describe(upload, limits or DatasetLimits())


def fit_dataset(
    upload: Path,
    inputs: Sequence[TensorSpec],
    folder: Path,
    options: ImageOptions | None = None,
    limits: DatasetLimits | None = None,
) -> Data:
    """Turn an uploaded dataset into the arrays that a model reads.

    Args:
        upload: the uploaded bytes.
        inputs: the model's inputs.
        folder: the directory for the arrays, one ``.npy`` file each; created if it is missing.
        options: how images are normalised.
        limits: what the dataset may hold.

    Raises:
        InvalidDataset: the dataset is broken.
        DatasetMismatch: the dataset does not fit the inputs; each mismatch is named.
    """
    form, limits = _format(upload), limits or DatasetLimits()
    description = form.describe(upload, limits)
    require_match(description, list(inputs))
    folder.mkdir(exist_ok=True)
    fitted = form.arrays(upload, inputs, folder, options or ImageOptions(), limits)
    return Data(
        inputs={tensor.name: fitted[tensor.name] for tensor in inputs},
        targets=_targets(fitted.get("targets"), description.targets),
        description=description,
    )


def _format(upload: Path) -> _Format:
    """Return the format of a file, recognised by its bytes."""
    head = head_of(upload)
    match contents.data_format(head):
        case "parquet":
            return FORMATS["parquet"]
        case "zip":
            return FORMATS["npz" if npz.recognises(upload) else "images"]
        case None:
            raise InvalidDataset(contents.unknown("dataset", head))


def _targets(array: NDArray[Any] | None, described: Targets | None) -> NDArray[Any] | None:
    if array is None or described is None:
        return None
    return array.astype(np.float32 if array.dtype.kind == "f" else np.int64)
