"""What the tests of format ``source`` have in common: steps, orders, and what an archive holds."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from app.domain.directory import InspectModel, Produced
from app.domain.models import INPUT_HINTS, ModelHints

ZEROS = {"method": "prune", "granularity": "unstructured", "sparsity": 0.5}
CHANNELS = {"method": "prune", "ratio": 0.5}
NEAR = 1e-4


def source(**inputs: Any) -> dict[str, Any]:
    hints = {"inputs": INPUT_HINTS.validate_python([inputs])} if inputs else {}
    order = InspectModel(may_run_code=True, hints=ModelHints(**hints))
    return order.model_dump(mode="json")


def delivered(tmp_path: Path, artifact: Produced) -> dict[str, bytes]:
    """Return the files of the archive by name."""
    with zipfile.ZipFile(tmp_path / "job" / "artifacts" / artifact.path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def graph_answers(tmp_path: Path, feeds: dict[str, np.ndarray[Any, Any]]) -> Any:
    session = ort.InferenceSession(tmp_path / "job" / "artifacts" / "model.onnx")
    return session.run(None, feeds)[0]
