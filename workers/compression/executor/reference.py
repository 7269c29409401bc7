"""Runs operators without a torch function through ONNX's reference, without a gradient."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnx.reference import ReferenceEvaluator

from workers.compression.executor.devices import device_of
from workers.compression.executor.dtypes import kind_of, to_numpy, to_torch

_READ_AS_LISTS = frozenset({"NonMaxSuppression"})
"""Operators whose scalars the reference reads as lists of one number; onnxruntime takes either."""


@dataclass(frozen=True)
class Reference:
    """Runs one node through ``onnx.reference``."""

    operator: str
    model: bytes
    names: tuple[str, ...]
    types: tuple[ir.DataType | None, ...]

    @classmethod
    def of(cls, node: ir.Node, opset: int) -> "Reference":
        """Make a model of one node that ``onnx.reference`` can run.

        Raises:
            NotImplementedError, RuntimeError: the reference does not know the operator.
        """
        proto = ir.serde.serialize_node(node)
        names = tuple("" if v is None else str(v.name) for v in node.inputs)
        graph = onnx.helper.make_graph(
            [proto],
            "node",
            [onnx.helper.make_value_info(n, onnx.TypeProto()) for n in dict.fromkeys(names) if n],
            [onnx.helper.make_value_info(str(v.name), onnx.TypeProto()) for v in node.outputs],
        )
        imports = [onnx.helper.make_opsetid("", opset)]
        if node.domain:
            imports.append(onnx.helper.make_opsetid(node.domain, 1))
        model = onnx.helper.make_model(graph, opset_imports=imports).SerializeToString()
        types = tuple(None if v is None else v.dtype for v in node.inputs)
        reference = cls(node.op_type, model, names, types)
        reference._evaluator()
        return reference

    def __call__(self, *values: torch.Tensor | None) -> Any:
        """Return the node's outputs, on the device of its inputs."""
        device = device_of(values)
        feeds = {
            name: to_numpy(value, kind or kind_of(value))
            for name, kind, value in zip(self.names, self.types, values, strict=False)
            if value is not None
        }
        if self.operator in _READ_AS_LISTS:
            feeds = {name: np.atleast_1d(value) for name, value in feeds.items()}
        results = self._evaluator().run(None, feeds)
        return tuple(
            None if result is None else to_torch(np.asarray(result)).to(device)
            for result in results
        )

    def _evaluator(self) -> ReferenceEvaluator:
        return ReferenceEvaluator(onnx.ModelProto.FromString(self.model))
