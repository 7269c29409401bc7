"""The formats ``onnx`` and ``ort``, both run by onnxruntime."""

from functools import partial
from pathlib import Path

import onnxruntime as ort
from onnxruntime import GraphOptimizationLevel, SessionOptions

from app.domain.problems import DeliveryFailed
from workers.compression.delivery.form import Form, Made, Source, pack
from workers.compression.graph import runtime
from workers.compression.graph.load import files_of
from workers.compression.targets import onnx as target
from workers.compression.targets.runner import Runner


def make_onnx(source: Source, directory: Path) -> Made:
    """Copy the graph: the file itself, or a zip with its external data past 2 GiB."""
    files = files_of(source.result)
    if len(files) > 1:
        file = pack(files, directory / "model.zip")
    else:
        file = directory / "model.onnx"
        file.write_bytes(source.result.read_bytes())
    return Made(file, partial(_open, source.result, source))


def make_ort(source: Source, directory: Path) -> Made:
    """Write the graph as onnxruntime has optimized it, for its builds without an ONNX parser.

    Optimizations for the processor at hand are left out, so that the file runs on others too.

    Raises:
        DeliveryFailed: the graph has more than 2 GiB of weights.
    """
    if len(files_of(source.result)) > 1:
        raise DeliveryFailed("An .ort file holds less than 2 GiB.")
    file = directory / "model.ort"
    options = SessionOptions()
    options.graph_optimization_level = GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(file.absolute())
    options.add_session_config_entry("session.save_model_format", "ORT")
    options.log_severity_level = 4
    with runtime.empty_working_directory():
        ort.InferenceSession(
            str(source.result.absolute()), options, providers=["CPUExecutionProvider"]
        )
    return Made(file, partial(_open, file, source))


def _open(file: Path, source: Source) -> Runner:
    session = target.open_session(file, source.threads)
    return Runner(
        f"onnxruntime {target.VERSION}",
        source.names,
        partial(target.run, session, source.names),
    )


ONNX = Form("onnxruntime", "onnxruntime", make_onnx)
ORT = Form("onnxruntime", "onnxruntime", make_ort)
