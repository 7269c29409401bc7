"""OpenVINO's intermediate representation: two files, packed into a zip."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from app.domain.problems import DeliveryFailed
from workers.compression import faults
from workers.compression.delivery.biases import add_biases_apart
from workers.compression.delivery.form import Form, Made, Source, pack
from workers.compression.delivery.scans import carry_what_is_read
from workers.compression.delivery.windows import shrink_windows
from workers.compression.graph.load import load
from workers.compression.graph.operators import RECURRENT, channel_axis
from workers.compression.graph.packing import unpack
from workers.compression.samples.context import Feeds
from workers.compression.targets.runner import Runner

_NAMED = re.compile(r"<Node\(\w+\): ([^>]+)>")
"""How OpenVINO names a node that it does not take: by its first output."""
_UNKNOWN = re.compile(r"conversion rule found for operations: (?:[\w.]+\.)?(?P<op>\w+)")
"""How it names an operator that it does not have."""


def make(source: Source, directory: Path) -> Made:
    """Convert the graph; weights keep their type, and dynamic dimensions stay dynamic.

    Raises:
        DeliveryFailed: OpenVINO has no such operator, or no kernel for it.
    """
    import openvino as ov
    from openvino.frontend import FrontEndManager

    graph = source.workspace / "model.xml"
    try:
        reader = FrontEndManager().load_by_framework("onnx")
        model = reader.convert(reader.load(str(_readable(source).absolute())))
        ov.save_model(model, graph, compress_to_fp16=False)
    except Exception as error:  # OpenVINO has a class of errors for each of its parts
        if first := _first_refused(str(error), source.graph):
            faults.note_node(error, faults.label(first))
        raise DeliveryFailed(f"OpenVINO refuses this model: {faults.refusal(error)}.") from error
    archive = pack([graph, graph.with_suffix(".bin")], directory / "model-openvino.zip")
    return Made(archive, partial(_open, graph, source))


def _readable(source: Source) -> Path:
    """Return the graph as OpenVINO takes it, with its weights as its kernels take them.

    Recurrent layers take constants alone, so of a graph with such layers all weights are unpacked.
    Of packed weights a Gather takes those with a step for each row, and a product those with a
    step for each output, or one for all. With others a Gather reads past the steps, which ends the
    process, and a product of up to four rows gives wrong numbers.
    """
    model = ir.load(source.graph)
    misread = [node for node in model.graph if _is_misread(node)]
    recurrent = any(node.op_type in RECURRENT for node in model.graph.all_nodes())
    if recurrent:
        model = load(source.graph)
    elif misread:
        unpack(model, misread)
    changed = [carry_what_is_read(model), add_biases_apart(model), shrink_windows(model)]
    if not (recurrent or misread or any(changed)):
        return source.graph
    readable = source.workspace / "readable.onnx"
    ir.save(model, readable, external_data="readable.data")
    return readable


def _first_refused(said: str, graph: Path) -> ir.Node | None:
    """Return the first node that OpenVINO does not take; those behind it may lack its types."""
    nodes = ir.load(graph).graph.all_nodes()
    if unknown := _UNKNOWN.search(said):
        return next((node for node in nodes if node.op_type == unknown["op"]), None)
    named = set(_NAMED.findall(said))
    return next((node for node in nodes if named & {value.name for value in node.outputs}), None)


def _is_misread(node: ir.Node) -> bool:
    """Return whether a node ends a packed weight that has other steps than its readers take."""
    steps = node.inputs[1].const_value if node.op_type == "Mul" and node.inputs[1] else None
    if steps is None or steps.size == 1:
        return False
    return any(steps.shape[axis] == 1 for axis in _axes_taken(node.outputs[0]))


def _axes_taken(weight: ir.Value) -> Iterator[int]:
    """Yield the axis along which each reader of a weight takes steps."""
    for node, slot in weight.uses():
        if node.op_type == "Gather" and slot == 0:
            yield node.attributes.get_int("axis", 0)
        elif node.op_type in {"Gemm", "MatMul"} and slot == 1:
            axis = channel_axis(node)
            assert axis is not None
            yield axis


def _open(graph: Path, source: Source) -> Runner:
    """Compile for the CPU. float32 stays float32, although OpenVINO may prefer a narrower type.

    That is bfloat16, or eight bits for what is multiplied by weights that are stored in eight.
    """
    import openvino as ov

    settings = {
        "INFERENCE_NUM_THREADS": source.threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = ov.Core().compile_model(graph, "CPU", settings)
    request = compiled.create_infer_request()

    def run(feeds: Feeds) -> list[NDArray[Any]]:
        outputs = request.infer(feeds, share_inputs=True)
        return [np.array(outputs[name]) for name in source.names]

    version = ov.__version__.partition("-")[0]
    return Runner(f"openvino {version}", source.names, run)


OPENVINO = Form("openvino", "openvino", make)
