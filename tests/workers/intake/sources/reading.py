"""What every test of an upload does: have it inspected, and look at what came of it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from app.domain.directory import ORIGINAL, InspectModel
from app.domain.models import INPUT_HINTS, Conversion, ModelDescription, ModelHints
from app.domain.problems import InvalidModel
from workers.compression.intake.inspect import inspect_model

EXACT = 1e-5


def inspected(file: Path, directory: Path, **hints: Any) -> tuple[ModelDescription, Conversion]:
    """Inspect a file in a directory of its own, with code allowed as in whole confinement."""
    directory.mkdir(exist_ok=True)
    upload = Path(shutil.copyfile(file, directory / "upload"))
    if "inputs" in hints:
        hints["inputs"] = INPUT_HINTS.validate_python(hints["inputs"])
    order = InspectModel(may_run_code=True, hints=ModelHints(**hints))
    found = inspect_model(upload, directory, order=order)
    assert found.conversion is not None
    return found, found.conversion


def answers(directory: Path, *inputs: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    """Return what the graph that was made of an upload answers."""
    session = ort.InferenceSession(directory / ORIGINAL, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    found: list[np.ndarray[Any, Any]] = session.run(None, dict(zip(names, inputs, strict=True)))
    return found


@contextmanager
def rejected(words: str) -> Iterator[None]:
    """Expect an upload to be rejected with a message that has these words."""
    with pytest.raises(InvalidModel, match=words):
        yield
