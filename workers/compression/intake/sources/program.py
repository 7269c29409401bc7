"""The network of an upload of another framework, before it is converted to a graph."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from app.domain.models import TensorSpec
from workers.compression.graph.sums import size_of, terms

BATCH = "batch"
"""The name of the first dimension where neither the file nor the user gives one."""


@dataclass(frozen=True)
class Program:
    """A network that torch runs: tensors in by position, a tensor or a structure of them out."""

    module: nn.Module
    inputs: list[TensorSpec]
    """In the order in which the module takes them; every dynamic dimension has a name."""
    source: str
    """The name of the framework that opened the file."""
    version: str
    outputs: list[str] = field(default_factory=list)
    """The names of outputs, where the file has them; other outputs are numbered."""
    warnings: list[str] = field(default_factory=list)
    below: dict[str, int] = field(default_factory=dict)
    """The exclusive upper bounds of the integers of inputs, where known."""
    may_be_empty: tuple[str, ...] = ()
    """The names of dynamic dimensions whose size may be 0."""
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    """The weights by the framework's names. Writing into a tensor changes the network."""
    save: Callable[[Path], Path] | None = None
    """Writes layers and weights as a file of the framework into a directory, where it can."""
    narrowed: Callable[[Mapping[str, NDArray[Any]]], "Program"] | None = None
    """Builds the network again with weights of other sizes, where the file describes layers."""
    exported: torch.export.ExportedProgram | None = None
    """The exported program that ``module`` was made from, where the file holds one."""

    @property
    def symbols(self) -> list[str]:
        """The names of the dynamic dimensions, in order, each once; without sums of others."""
        names = [size for spec in self.inputs for size in spec.shape if isinstance(size, str)]
        return [name for name in dict.fromkeys(names) if not terms(name)]

    @property
    def sums(self) -> list[str]:
        """The names of dynamic dimensions that are sums of others, such as ``past + length``."""
        names = [size for spec in self.inputs for size in spec.shape if isinstance(size, str)]
        return [name for name in dict.fromkeys(names) if terms(name)]

    def answer(self, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return the network's outputs by name; outputs without a name are numbered."""
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
            _draw(spec, sizes, generator, min(below, self.below.get(spec.name) or below))
            for spec in self.inputs
        ]


def _distinct(names: Sequence[str], inputs: Sequence[TensorSpec]) -> list[str]:
    """Return names of outputs, changed where they are also names of inputs."""
    taken = {spec.name for spec in inputs}
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
    """Return the torch dtype for the name of a numpy dtype."""
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def _draw(
    spec: TensorSpec, sizes: Mapping[str, int], generator: torch.Generator, below: int
) -> Tensor:
    shape = [size_of(size, sizes) for size in spec.shape]
    dtype = torch_dtype(spec.dtype)
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(dtype)
    below = min(below, 2) if dtype == torch.bool else below
    return torch.randint(0, below, shape, generator=generator).to(dtype)
