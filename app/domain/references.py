"""Requests that name a model or a dataset by its address, in place of its bytes."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from app.domain.datasets import Finite, Positive
from app.domain.fault_words import Said
from app.domain.models import ArchitectureName, InputHints

Digest = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9a-fA-F]{64}$", to_lower=True),
    Said("must be 64 hexadecimal digits"),
]


class Reference(BaseModel):
    """A file by its address."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    url: str = Field(min_length=1, max_length=2000)
    """``https://…`` or ``s3://bucket/key``, of a place that the deployment fetches from."""
    sha256: Digest | None = None
    """What the bytes must have; other bytes are rejected."""
    name: str | None = Field(default=None, max_length=200)
    """What to call it."""
    filename: str | None = Field(default=None, max_length=500)
    """The file's name. Default: the last part of the address."""


class ModelReference(Reference):
    """A model by its address."""

    architecture: ArchitectureName | None = None
    """The network that a file of weights belongs to."""
    inputs: InputHints | None = None
    """What the file does not tell of its inputs."""
    cache: bool = False
    """Of a decoder: whether the keys and values of earlier tokens are inputs and outputs."""


class DatasetReference(Reference):
    """A dataset by its address."""

    mean: list[Finite] = Field(default=[0.0], min_length=1, max_length=4)
    """Of images, a number for each channel."""
    std: list[Positive] = Field(default=[1.0], min_length=1, max_length=4)
    """Of images, a number for each channel."""
