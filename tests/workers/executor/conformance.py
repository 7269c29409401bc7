"""The ONNX backend node tests, run through the executor; ``make conformance`` prints the result.

Cases of an older opset than the normal form's are lifted first, as uploads are.

Left out are what a network that is compressed does not compute: strings, sequences and optional
values, image decoding, random operators and those of training; and other domains than ai.onnx.
"""

import sys
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx.backend.test.loader
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from onnx.backend.test.case.test_case import TestCase
from onnx.numpy_helper import to_array

from workers.compression.executor import build
from workers.compression.executor.dtypes import to_numpy, to_torch
from workers.compression.graph.operators import OPSET
from workers.compression.graph.rewrites.opset import lift_opset

LEAST = 0.97
"""Of all cases, what must pass."""

_OTHER_OPERATORS = frozenset(
    {
        "ImageDecoder", "Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike",
        "RandomUniform", "RandomUniformLike", "StringConcat", "StringNormalizer", "StringSplit",
        "RegexFullMatch", "TfIdfVectorizer",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """How one case ended."""

    case: str
    operator: str
    reason: str | None
    """Why it failed, None if it passed."""
    referenced: bool
    """Whether a node ran through ``onnx.reference``."""


def cases() -> list[TestCase]:
    """Return the cases that count."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = onnx.backend.test.loader.load_model_tests(kind="node")
    return [case for case in found if _counts(case.model)]


def run(case: TestCase, device: str = "cpu") -> Verdict:
    """Run one case, all of its data, on a device as torch names it."""
    operator = _operator(case)
    referenced = False
    try:
        model = ir.serde.deserialize_model(case.model)
        if model.opset_imports.get("", OPSET) < OPSET:
            lift_opset(model)
        executor = build(model).to(device)
        referenced = bool(executor.frozen)
        kinds = [value.dtype for value in model.graph.outputs]
        for inputs, outputs in case.data_sets:
            names = [value.name for value in model.graph.inputs]
            arrays = {str(name): _array(x) for name, x in zip(names, inputs, strict=True)}
            feeds = {name: to_torch(array).to(device) for name, array in arrays.items()}
            with torch.no_grad():
                found = list(executor(feeds).values())
            for wanted, tensor, kind in zip(outputs, found, kinds, strict=True):
                assert kind is not None
                _compare(_array(wanted), to_numpy(tensor, kind), case)
    except Exception as error:  # noqa: BLE001 (every failure is a verdict)
        return Verdict(case.name, operator, f"{type(error).__name__}: {error}", referenced)
    return Verdict(case.name, operator, None, referenced)


def _array(value: object) -> NDArray[Any]:
    return to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def _compare(wanted: NDArray[Any], found: NDArray[Any], case: TestCase) -> None:
    assert found.dtype == wanted.dtype, f"{found.dtype} instead of {wanted.dtype}"
    assert found.shape == wanted.shape, f"{found.shape} instead of {wanted.shape}"
    if wanted.dtype.kind == "V":
        wanted, found = wanted.astype(np.float32), found.astype(np.float32)
    np.testing.assert_allclose(found, wanted, rtol=case.rtol, atol=case.atol)


def _operator(case: TestCase) -> str:
    """Return what a case is about: its name begins with the operator's."""
    types = {str(node.op_type) for node in case.model.graph.node}
    if len(types) == 1:
        return types.pop()
    name = str(case.name).removeprefix("test_").replace("_", "")
    known = {str(schema.name) for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
    return max((each for each in known if name.startswith(each.lower())), key=len, default=name)


def _counts(model: onnx.ModelProto) -> bool:
    values = [*model.graph.input, *model.graph.output]
    kinds = {value.type.WhichOneof("value") for value in values}
    if kinds != {"tensor_type"}:
        return False
    nodes = list(_nodes(model.graph))
    strings = any(v.type.tensor_type.elem_type == onnx.TensorProto.STRING for v in values)
    other = any(node.domain or node.op_type in _OTHER_OPERATORS for node in nodes)
    sequences = any(node.op_type.startswith(("Sequence", "Optional")) for node in nodes)
    return not (strings or other or sequences or any(_trains(node, model) for node in nodes))


def _trains(node: onnx.NodeProto, model: onnx.ModelProto) -> bool:
    if node.op_type == "BatchNormalization":
        return any(each.name == "training_mode" and each.i for each in node.attribute)
    return node.op_type == "Dropout" and len(node.input) > 2 and node.input[2] != ""


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g)


def main() -> int:
    """Print passed and total for each operator; fail below ``LEAST``."""
    verdicts = [run(case) for case in cases()]
    groups: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        groups[verdict.operator].append(verdict)
    print(f"{'operator':<28} {'passed':>6} {'total':>6} {'through onnx.reference':>24}")
    for operator, group in sorted(groups.items()):
        passed = sum(verdict.reason is None for verdict in group)
        referenced = sum(verdict.referenced for verdict in group)
        print(f"{operator:<28} {passed:>6} {len(group):>6} {referenced or '':>24}")
        for verdict in group:
            if verdict.reason is not None:
                print(f"    {verdict.case}: {' '.join(verdict.reason.split())[:160]}")
    count = Counter((verdict.reason is None, verdict.referenced) for verdict in verdicts)
    passed = count[True, False] + count[True, True]
    print(
        f"{passed} of {len(verdicts)} pass ({passed / len(verdicts):.1%}), "
        f"{count[True, True]} of them partly through onnx.reference"
    )
    return 0 if passed >= LEAST * len(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
