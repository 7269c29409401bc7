"""Format ``web``: a directory for a web server, whose page runs the graph in the browser.

The zip has the ONNX file, onnxruntime-web, and a page that runs held-out samples and compares the
answers with onnxruntime's. No browser is started here: the engine's process may start no program.
"""

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.directory import RUNTIME
from app.domain.problems import DeliveryFailed
from workers.compression.delivery.form import Form, Made, Source, pack
from workers.compression.graph import runtime
from workers.compression.graph.load import files_of

_PAGE = ("index.html", "page.mjs")
_RUNTIME = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
_RUNS, _BYTES = 8, 1 << 20
"""The most runs in the page's samples, and about how many bytes they take."""
_TYPES = frozenset(
    ["float32", "float64", "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32",
     "int64", "uint64"]
)  # fmt: skip
"""numpy's names of the types that arrays of JavaScript have."""
_NOT_RUN = (
    "It runs in a browser, and none was started here: it was not timed. Unpack it, run"
    " 'python3 -m http.server' there, and open the page: it compares its answers with those of"
    " onnxruntime here."
)


def make(source: Source, directory: Path) -> Made:
    """Write the zip.

    Raises:
        DeliveryFailed: the graph has more than 2 GiB of weights, or inputs or outputs of a type
            that browsers have no arrays of.
    """
    if len(files_of(source.graph)) > 1:
        raise DeliveryFailed("a browser loads less than 2 GiB.")
    runtime_files = [source.workspace / RUNTIME / name for name in _RUNTIME]
    if not all(file.is_file() for file in runtime_files):
        raise DeliveryFailed("onnxruntime-web is not here: run 'planish tools install web'.")
    graph, samples = source.workspace / "model.onnx", source.workspace / "samples.json"
    shutil.copyfile(source.graph, graph)
    samples.write_text(json.dumps({"runs": list(_runs(source))}), encoding="utf-8")
    page = [Path(__file__).with_name(name) for name in _PAGE]
    files = [*page, graph, samples, *runtime_files]
    return Made(pack(files, directory / "model-web.zip"), None, reason=_NOT_RUN)


def _runs(source: Source) -> Iterator[dict[str, Any]]:
    """Yield the inputs of a few runs, and what onnxruntime answers."""
    session = runtime.open_session(source.graph, threads=source.threads)
    size = 0
    for feeds, _ in source.held_out.draw(_RUNS * source.held_out.layout.size, 0).runs():
        outputs = dict(zip(source.names, session.run(source.names, feeds), strict=True))
        inputs = {name: feeds[name] for name in source.feeds}
        size += sum(array.nbytes for array in (*inputs.values(), *outputs.values()))
        yield {"inputs": _written(inputs), "outputs": _written(outputs)}
        if size > _BYTES:
            return


def _written(arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray) or array.dtype.name not in _TYPES:
            raise DeliveryFailed(f"'{name}' has a type that browsers have no arrays of.")
    return {
        name: {
            "dtype": array.dtype.name,
            "shape": list(array.shape),
            "data": base64.b64encode(np.ascontiguousarray(array).tobytes()).decode(),
        }
        for name, array in arrays.items()
    }


WEB = Form("onnxruntime-web", None, make, tool="web")
