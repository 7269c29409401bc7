"""The graph as a torch module."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir
import torch
from torch import nn

from app.domain.steps import Skipped
from workers.compression.executor.compiling import Program, compile_graph
from workers.compression.executor.dtypes import to_numpy, to_torch
from workers.compression.executor.plan import labelled, run
from workers.compression.executor.symbolic import sizes_or_weight


class Executor(nn.Module):
    """Runs a graph, differentiably in its float initializers. Made by ``build``.

    Attributes:
        names: the name of the parameter of each float initializer; names are unique on both sides.
            Constants of shape arithmetic, bounds, and single numbers in a formula (the 0.5 of a
            GELU) have no parameter: they are bound to the functions that use them.
        frozen: the nodes that no gradient passes through, each with the reason. Most of them run
            through ``onnx.reference``.
        untranslated: the operators that do, each with its node's name: torch cannot export them.
    """

    names: dict[str, str]
    frozen: list[Skipped]
    untranslated: list[str]

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.frozen, self.untranslated = program.frozen, program.untranslated
        self.names = _torch_names([str(value.name) for value in program.weights])
        self._plan, self._inputs, self._outputs = program.plan, program.inputs, program.outputs
        self._weights, self._constants = list[tuple[int, str]](), list[tuple[int, str]]()
        self._sizes = program.sizes
        self._symbolic = [(slot, sizes_or_weight(tensor)) for slot, tensor in program.sizes]
        for value, slot in program.weights.items():
            name = self.names[str(value.name)]
            assert value.const_value is not None
            tensor = to_torch(value.const_value.numpy())
            trained = value not in program.statistics and _is_finite(tensor)
            self.register_parameter(name, nn.Parameter(tensor, requires_grad=trained))
            self._weights.append((slot, name))
        for slot, constant in program.constants:
            name = f"constant_{slot}"
            self.register_buffer(name, constant, persistent=False)
            self._constants.append((slot, name))

    def forward(self, feeds: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Compute the outputs.

        Args:
            feeds: a tensor for each input of the graph, on the device of the parameters.

        Returns:
            The values that ``build`` was asked to return, by name.

        Raises:
            ValueError: an input is missing.
        """
        values: list[Any] = [None] * self._plan.size
        for name, slot in self._inputs.items():
            if name not in feeds:
                raise ValueError(f"the graph's input {name!r} was not given")
            values[slot] = feeds[name]
        for slot, name in self._weights:
            values[slot] = self._parameters[name]
        for slot, name in self._constants:
            values[slot] = self._buffers[name]
        exporting = torch.compiler.is_exporting()
        for slot, sizes in self._symbolic if exporting else self._sizes:
            values[slot] = sizes
        plan = labelled(self._plan) if exporting else self._plan
        return dict(zip(self._outputs, run(plan, values), strict=True))

    def weight(self, name: str) -> nn.Parameter:
        """Return the parameter of an initializer.

        Raises:
            KeyError: the initializer has no parameter: it is no float, is bound, or does not exist.
        """
        parameter = self._parameters[self.names[name]]
        assert parameter is not None
        return parameter


def build(model: ir.Model, *, outputs: Sequence[str] | None = None) -> Executor:
    """Build a torch module that runs and trains a graph.

    Args:
        model: a model in normal form; not changed.
        outputs: names of the values to return: outputs or any other values of the main graph. The
            graph's outputs by default. Strings and sequences are left out: they are no tensors.

    Returns:
        A module on the CPU, whose parameters have the initializers' types. All of them have
        ``requires_grad``, except statistics of BatchNormalization and masks.

    Raises:
        ValueError: ``outputs`` names no value.
        InvalidModel: the graph is of an older opset than the normal form's, or neither torch nor
            ``onnx.reference`` can run an operator.
    """
    return Executor(compile_graph(model, outputs))


def write_back(executor: Executor, model: ir.Model) -> None:
    """Copy the parameters into the initializers that they came from, by name.

    Args:
        executor: an executor on any device, with parameters of any float type.
        model: the model that the executor was built from, or a clone; its initializers keep their
            dtype. An initializer whose value has not changed is left as it is.

    Raises:
        KeyError: the model has no initializer of a parameter's name.
        ValueError: a parameter's shape is not the initializer's.
    """
    initializers = {
        name: value for graph in model.graphs() for name, value in graph.initializers.items()
    }
    for name in executor.names:
        value = initializers[name]
        assert value.const_value is not None
        kind = value.const_value.dtype
        tensor = executor.weight(name)
        if tuple(tensor.shape) != tuple(value.const_value.shape.numpy()):
            raise ValueError(f"{name!r} is {value.const_value.shape}, not {list(tensor.shape)}")
        before = to_torch(value.const_value.numpy())
        after = tensor.detach().to("cpu", before.dtype)
        if not torch.equal(before, after):
            value.const_value = ir.Tensor(to_numpy(after, kind), dtype=kind, name=name)


def _is_finite(tensor: torch.Tensor) -> bool:
    """Return whether no element is infinite, NaN or the lowest number, as masks have them."""
    return bool((torch.isfinite(tensor) & (tensor != torch.finfo(tensor.dtype).min)).all())


def _torch_names(names: Sequence[str]) -> dict[str, str]:
    """Give each name a unique torch name of letters, digits and underscores."""
    torch_names: dict[str, str] = {}
    used = set()
    for name in names:
        base = candidate = "weight_" + re.sub(r"\W", "_", name)
        number = 1
        while candidate in used:
            candidate, number = f"{base}_{number}", number + 1
        used.add(candidate)
        torch_names[name] = candidate
    return torch_names
