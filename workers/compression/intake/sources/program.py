"""A network of another framework, before it is a graph."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from app.domain.models import TensorSpec

BATCH = "batch"
"""How the first dimension is called where neither the file nor the user names it."""


@dataclass(frozen=True)
class Program:
    """A network that torch runs: tensors in by position, a tensor or a structure of them out."""

    module: nn.Module
    inputs: list[TensorSpec]
    """In the order in which the module takes them; every dynamic dimension has a name."""
    source: str
    """The framework that opened the file."""
    version: str
    outputs: list[str] = field(default_factory=list)
    """Names, where the file has them; else the outputs are numbered."""
    warnings: list[str] = field(default_factory=list)
    below: dict[str, int] = field(default_factory=dict)
    """Where the integers of an input lie below a bound that is known: that bound."""
    exported: torch.export.ExportedProgram | None = None
    """Where the file holds one: what ``module`` was made of."""

    @property
    def symbols(self) -> list[str]:
        """The names of the dynamic dimensions, in order, each once."""
        dimensions = [size for each in self.inputs for size in each.shape if isinstance(size, str)]
        return list(dict.fromkeys(dimensions))

    def answer(self, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return the network's outputs by their names, numbered where they have none."""
        with torch.no_grad():
            structure = self.module(*inputs)
        tensors = flat(structure)
        names = list(structure) if isinstance(structure, dict) else self.outputs
        if len(names) != len(tensors):
            numbers = range(len(tensors))
            names = ["output"] if len(tensors) == 1 else [f"output_{n}" for n in numbers]
        return dict(zip(_distinct(names, self.inputs), tensors, strict=True))

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Return the network's outputs, in order."""
        with torch.no_grad():
            return flat(self.module(*inputs))

    def draw(self, sizes: Mapping[str, int], seed: int, below: int) -> list[Tensor]:
        """Return random inputs: normal floats, integers from 0 up to ``below``."""
        generator = torch.Generator().manual_seed(seed)
        return [
            _draw(each, sizes, generator, min(below, self.below.get(each.name) or below))
            for each in self.inputs
        ]


def _distinct(names: Sequence[str], inputs: Sequence[TensorSpec]) -> list[str]:
    """Return names of outputs, none that is an input's too."""
    taken = {each.name for each in inputs}
    distinct: list[str] = []
    for name in names:
        while name in taken:
            name += "_"  # noqa: PLW2901 (until it is free)
        taken.add(name)
        distinct.append(name)
    return distinct


def flat(outputs: Any) -> list[Tensor]:
    """Return the tensors of a structure of outputs, in order."""
    return [leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, Tensor)]


def torch_dtype(name: str) -> torch.dtype:
    """Return torch's type of numpy's name."""
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def _draw(
    spec: TensorSpec, sizes: Mapping[str, int], generator: torch.Generator, below: int
) -> Tensor:
    shape = [sizes[size] if isinstance(size, str) else size for size in spec.shape]
    dtype = torch_dtype(spec.dtype)
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(dtype)
    below = min(below, 2) if dtype == torch.bool else below
    return torch.randint(0, below, shape, generator=generator).to(dtype)
