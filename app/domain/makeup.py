"""What a model is made of: where its multiplications and its weights are, and what it is like."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from app.domain.models import Layer, ModelDescription

Kind = Literal["convolution", "grouped", "product", "recurrent", "embedding", "other"]
"""``grouped``: convolutions of several groups, such as depthwise ones."""

_KINDS: dict[str, Kind] = {
    "Conv": "convolution",
    "ConvTranspose": "convolution",
    "Gemm": "product",
    "MatMul": "product",
    "LSTM": "recurrent",
    "GRU": "recurrent",
    "RNN": "recurrent",
    "Gather": "embedding",
}

_PRESENT = 0.05
"""The least share of the work that makes a kind of layer a part of what a model is like."""

_CLASS = 4.0
"""Models of one class differ in their work by less than this factor."""

_FLOAT_BYTES = 4


@dataclass(frozen=True)
class Part:
    """Layers of one form."""

    title: str
    """In the plural, such as ``3×3 convolutions``."""
    macs: float
    """Their share of the model's multiply-accumulates."""
    parameters: float
    """Their share of its parameters."""


@dataclass(frozen=True)
class Makeup:
    """Where a model's multiply-accumulates and parameters are."""

    layers: Sequence[Layer]
    macs: int
    parameters: int
    size_bytes: int

    @property
    def parts(self) -> list[Part]:
        """The forms of layers, the one with the most multiply-accumulates first."""
        macs, parameters = Counter[str](), Counter[str]()
        for layer in self.layers:
            title = _title(layer)
            macs[title] += layer.macs
            parameters[title] += layer.parameters
        parts = [
            Part(
                title, macs[title] / max(self.macs, 1), parameters[title] / max(self.parameters, 1)
            )
            for title in parameters
        ]
        return sorted(parts, key=lambda part: (-part.macs, -part.parameters, part.title))

    @property
    def weights_of_file(self) -> float | None:
        """The share of the file that its weights take as float32; None where that cannot be."""
        share = self.parameters * _FLOAT_BYTES / max(self.size_bytes, 1)
        return share if 0 < share <= 1 else None


def makeup(description: ModelDescription, size_bytes: int) -> Makeup:
    """Return what a model is made of.

    Args:
        description: what inspection found.
        size_bytes: of the model's file.
    """
    return Makeup(
        layers=description.layers,
        macs=sum(layer.macs for layer in description.layers),
        parameters=sum(layer.parameters for layer in description.layers),
        size_bytes=size_bytes,
    )


def likeness(description: ModelDescription) -> str:
    """Return the family and the class of a model's work: models of one are alike.

    The family names the kinds of layers that do the work; where nothing multiplies, that hold the
    weights. A class spans a factor of four.
    """
    found = makeup(description, 0)
    work: Counter[Kind] = Counter()
    for layer in found.layers:
        work[_kind(layer)] += layer.macs if found.macs else layer.parameters
    whole = max(found.macs or found.parameters, 1)
    family = "+".join(sorted(kind for kind, share in work.items() if share >= _PRESENT * whole))
    return f"{family or 'none'}:{math.floor(math.log(whole, _CLASS))}"


def alike(key: str) -> list[str]:
    """Return a likeness, and those of the family's neighbouring classes."""
    family, _, size = key.rpartition(":")
    return [f"{family}:{int(size) + step}" for step in (-1, 0, 1)]


def _kind(layer: Layer) -> Kind:
    kind = _KINDS.get(layer.operator, "other")
    return "grouped" if kind == "convolution" and layer.groups > 1 else kind


def _title(layer: Layer) -> str:
    kind = _kind(layer)
    if kind in ("convolution", "grouped"):
        size = "×".join(map(str, layer.kernel))
        words = "grouped convolutions" if kind == "grouped" else "convolutions"
        return f"{size} {words}" if size else words
    titles: dict[Kind, str] = {
        "product": "products with weights" if layer.parameters else "products of activations",
        "recurrent": "recurrent layers",
        "embedding": "embeddings",
    }
    return titles.get(kind, f"{layer.operator} layers")
