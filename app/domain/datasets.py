"""Descriptions of uploaded datasets, and whether one fits a model."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

from pydantic import AwareDatetime, Base64Bytes, BaseModel, ConfigDict, Field

from app.domain.models import TensorSpec, UploadStatus
from app.domain.problems import DatasetMismatch, ProblemDetails

DatasetId = Annotated[str, Field(max_length=64, json_schema_extra={"names": "dataset"})]

Finite = Annotated[float, Field(allow_inf_nan=False)]
MAX_COUNTED = 1000
"""Classes whose samples are counted."""

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]

_FLOATS = frozenset({"float16", "float32", "float64"})
_INTEGERS = frozenset({"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"})


class ImageOptions(BaseModel):
    """How the images of a dataset become a model's input: ``(pixel / 255 - mean) / std``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: list[Finite] = Field(default=[0.0], min_length=1, max_length=4)
    std: list[Positive] = Field(default=[1.0], min_length=1, max_length=4)


class Targets(BaseModel):
    """What the model should have answered."""

    model_config = ConfigDict(frozen=True)

    dtype: str
    shape: list[int | str]
    classes: int | list[str] | None
    """How many classes integer targets name, or the names of the class folders."""
    counts: list[int] | None = Field(default=None, max_length=MAX_COUNTED)
    """Samples of each class; null where there are no classes, or more than are counted."""


class Picture(BaseModel):
    """A sample that looks like an image or a map."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["picture"] = "picture"
    png: Base64Bytes = Field(max_length=200_000)


class Wave(BaseModel):
    """A sample that is a signal: the lowest and the highest value of each of its stretches."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["wave"] = "wave"
    lows: list[Finite] = Field(max_length=200)
    highs: list[Finite] = Field(max_length=200)


class Numbers(BaseModel):
    """The first values of any other sample."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["numbers"] = "numbers"
    text: str = Field(max_length=500)


class Glimpse(BaseModel):
    """One array of one sample, to look at."""

    model_config = ConfigDict(frozen=True)

    array: str
    sample: int
    target: str | None
    """The class, or the value where it is one number."""
    shown: Annotated[Picture | Wave | Numbers, Field(discriminator="kind")]


class DatasetDescription(BaseModel):
    """The engine's findings on one uploaded dataset."""

    model_config = ConfigDict(frozen=True)

    format: Literal["npz", "parquet", "images"]
    samples: int
    arrays: list[TensorSpec]
    """Without ``targets``; the first dimension is the sample. Images are one array, ``images``."""
    targets: Targets | None
    glimpses: list[Glimpse] = Field(default=[], max_length=64)
    """Samples from the whole dataset, for people to look at."""


class Dataset(BaseModel):
    """An uploaded dataset as clients see it; what inspection finds is null until then."""

    id: str
    name: str | None
    filename: str | None
    format: Literal["npz", "parquet", "images"] | None
    status: UploadStatus
    problem: ProblemDetails | None = Field(default=None, exclude_if=lambda value: value is None)
    sha256: str
    size_bytes: int
    samples: int | None
    arrays: list[TensorSpec] | None
    targets: Targets | None
    created_at: AwareDatetime


def spare(dataset: DatasetDescription, inputs: Iterable[TensorSpec]) -> list[str]:
    """Return the arrays that no input of a model reads."""
    if dataset.format == "images":
        return []
    read = {tensor.name for tensor in inputs}
    return [array.name for array in dataset.arrays if array.name not in read]


def mismatches(dataset: DatasetDescription, inputs: list[TensorSpec]) -> list[str]:
    """Return why a dataset does not fit a model's inputs, from the descriptions alone.

    The engine still checks values (an int64 that must fit an int32, say) when it reads the arrays.

    Returns:
        One sentence for each mismatch; empty when the dataset fits.
    """
    if dataset.format == "images":
        return _image_mismatches(inputs)
    arrays = {array.name: array for array in dataset.arrays}
    reasons = []
    for tensor in inputs:
        array = arrays.get(tensor.name)
        if array is None:
            names = ", ".join(sorted(arrays)) or "none"
            reasons.append(
                f"The model's input '{tensor.name}' has no array in the dataset"
                f" (its arrays: {names}); name one '{tensor.name}'."
            )
            continue
        if not _castable(array.dtype, tensor.dtype):
            reasons.append(
                f"Array '{array.name}' is {array.dtype}, but the model's input is"
                f" {tensor.dtype}{_how_to_store(array.dtype, tensor.dtype)}."
            )
        if dataset.format != "parquet" and not sample_axes(array.shape[1:], tensor.shape):
            reasons.append(
                f"Array '{array.name}' has shape {_show(array.shape)}, but the model's input"
                f" is {_show(tensor.shape)} (the first dimension of an array is the sample; the"
                " others are what the input holds of one, or the whole input)."
            )
    return reasons


def require_match(dataset: DatasetDescription, inputs: list[TensorSpec]) -> None:
    """Raise DatasetMismatch, with every reason, unless the dataset fits the model's inputs."""
    if reasons := mismatches(dataset, inputs):
        raise DatasetMismatch(" ".join(reasons))


def class_mismatch(dataset: DatasetDescription, other: DatasetDescription) -> str | None:
    """Return why two datasets number their classes differently; None if they do not.

    Classes are numbered by the sorted names of their folders, so a folder that one dataset lacks
    moves the numbers of those after it.
    """
    names, other_names = (_class_names(description) for description in (dataset, other))
    if names is None or other_names is None or names == other_names:
        return None
    shown = ", ".join(sorted(set(names) ^ set(other_names))[:20])
    return (
        "The dataset to judge on and the job's have other class folders, so their classes have"
        f" other numbers; these are in one of them alone: {shown}. Upload it with the same folders."
    )


def require_same_classes(dataset: DatasetDescription, other: DatasetDescription) -> None:
    """Raise DatasetMismatch unless two datasets number their classes alike."""
    if reason := class_mismatch(dataset, other):
        raise DatasetMismatch(reason)


def _class_names(dataset: DatasetDescription) -> list[str] | None:
    classes = dataset.targets.classes if dataset.targets else None
    return classes if isinstance(classes, list) else None


def _image_mismatches(inputs: list[TensorSpec]) -> list[str]:
    if len(inputs) != 1:
        return [f"Images feed a model with one input; this one has {len(inputs)}. Upload an .npz."]
    shape, dtype = inputs[0].shape, inputs[0].dtype
    if dtype not in {"float32", "float16", "float64", "uint8"}:
        return [f"Images become float32 or uint8; the model's input is {dtype}."]
    if len(shape) != 4 or not ({1, 3} & {shape[1], shape[3]}):
        return [
            f"Images need an input like [N, 3, H, W] or [N, H, W, 3]; this one is {_show(shape)}."
        ]
    return []


def _how_to_store(dtype: str, target: str) -> str:
    """Say how to store an array in another type; nothing for a type that no dataset may hold."""
    if target not in {"bool", *_FLOATS, *_INTEGERS}:
        return ""
    pixels = dtype == "uint8" and target in _FLOATS
    scaled = ", scaled as in training (pixels are often divided by 255)" if pixels else ""
    return f": store it with numpy's astype('{target}'){scaled}"


def _castable(dtype: str, target: str) -> bool:
    if dtype == target:
        return True
    return any(dtype in kind and target in kind for kind in (_FLOATS, _INTEGERS))


def sample_axes(row: Sequence[int | str], input_shape: Sequence[int | str]) -> list[int | None]:
    """Return the axes of a model's input that may count samples, likely ones first.

    Such an axis is the first one, or any dynamic one, or one of size 1 where the first is fixed
    too: recurrent states are ``[layers, samples, units]``. Running the model decides between them.

    Args:
        row: the shape of a sample in the dataset; a name stands for any size.
        input_shape: the shape of the input.

    Returns:
        The axes without which the input has the row's shape. None in the list means no axis: a
        row is the whole input, such as all nodes of one graph. The list is empty if the row does
        not fit.
    """
    if len(row) == len(input_shape):
        return [None] if _fits(row, input_shape) else []
    axes = [
        (isinstance(size, int), axis)
        for axis, size in enumerate(input_shape)
        if (axis == 0 or isinstance(size, str) or (size == 1 and isinstance(input_shape[0], int)))
        and _fits(row, [*input_shape[:axis], *input_shape[axis + 1 :]])
    ]
    return [axis for _, axis in sorted(axes)]


def _fits(shape: Sequence[int | str], pattern: Sequence[int | str]) -> bool:
    """Compare dimensions; a name stands for any size."""
    return len(shape) == len(pattern) and all(
        isinstance(have, str) or isinstance(want, str) or have == want
        for have, want in zip(shape, pattern, strict=True)
    )


def _show(shape: Sequence[int | str]) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"
