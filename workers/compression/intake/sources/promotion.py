"""Has operands of several types promoted in an exported graph as torch promotes them in a run.

An integer that is multiplied by a float becomes one. The exporter writes that down for the names in
which torch's own operators are written, but not for their second names, which Keras calls, and not
for powers. ONNX operators take one type alone, and divide integers without a rest.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_FIRST_NAMES = {
    "multiply": "mul", "subtract": "sub", "divide": "div",
    "greater": "gt", "greater_equal": "ge", "less": "lt", "less_equal": "le",
}  # fmt: skip


class Promoting(TorchFunctionMode):
    """While it is entered, operators are called by their first names, and powers of one type."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name in _FIRST_NAMES:
            func = getattr(torch, _FIRST_NAMES[name])
        elif name == "pow" and all(isinstance(each, torch.Tensor) for each in args):
            dtype = torch.result_type(*args)
            args = [each.to(dtype) for each in args]
        return func(*args, **(kwargs or {}))


def call_by_first_names(program: torch.export.ExportedProgram) -> None:
    """Call operators by their first names in a program, in place."""
    for module in program.graph_module.modules():
        if not isinstance(module, torch.fx.GraphModule):
            continue
        for node in module.graph.nodes:
            operator = node.target
            if not isinstance(operator, torch._ops.OpOverload):  # noqa: SLF001 (no public name)
                continue
            space, _, name = operator._schema.name.partition("::")  # noqa: SLF001
            if space == "aten" and name in _FIRST_NAMES:
                first = getattr(torch.ops.aten, _FIRST_NAMES[name])
                node.target = getattr(first, operator._overloadname)  # noqa: SLF001
        module.recompile()
