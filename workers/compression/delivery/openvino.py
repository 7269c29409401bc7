"""OpenVINO's intermediate representation: two files, packed into a zip."""

import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.problems import DeliveryFailed
from workers.compression import faults
from workers.compression.delivery.form import Form, Made, Source, pack
from workers.compression.samples.context import Feeds
from workers.compression.targets.runner import Runner

_MISSING = re.compile(r"No conversion rule found for operations: (.+)")
_SOURCE = re.compile(r"Check '.*?' failed at \S+ ")


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
        model = reader.convert(reader.load(str(source.graph.absolute())))
        ov.save_model(model, graph, compress_to_fp16=False)
    except Exception as error:  # OpenVINO has a class of errors for each of its parts
        raise DeliveryFailed(
            f"OpenVINO does not convert this model: {_words(error)} Deliver 'onnx' instead."
        ) from error
    archive = pack([graph, graph.with_suffix(".bin")], directory / "model-openvino.zip")
    return Made(archive, partial(_open, graph, source))


def _open(graph: Path, source: Source) -> Runner:
    """Compile for the CPU. float32 stays float32, although OpenVINO may prefer a narrower type."""
    import openvino as ov

    settings = {
        "INFERENCE_NUM_THREADS": source.threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = ov.Core().compile_model(graph, "CPU", settings)
    request = compiled.create_infer_request()

    def run(feeds: Feeds) -> list[NDArray[Any]]:
        outputs = request.infer(feeds, share_inputs=True)
        return [np.array(outputs[name]) for name in source.names]

    version = ov.__version__.partition("-")[0]
    return Runner(f"openvino {version}", source.names, run)


def _words(error: Exception) -> str:
    """Return an error's text without OpenVINO's source files; of operators, only the names."""
    text = str(error)
    if match := _MISSING.search(text):
        return f"it has no {match[1]}."
    return faults.sentence(_SOURCE.sub("", " ".join(text.split())))


OPENVINO = Form("openvino", "openvino", make)
