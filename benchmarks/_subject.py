"""What benchmarks on real models are about."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import onnx_ir as ir

from app.domain.directory import ORIGINAL, UPLOAD
from benchmarks._engine import SEED
from workers.compression.graph.load import load
from workers.compression.graph.rewrites.constants import lift_constants
from workers.compression.inputs import evaluation_set_of
from workers.compression.intake.inspect import inspect_model
from workers.compression.samples.context import Feeds, Samples
from workers.compression.samples.split import split

CALIBRATION = 128
"""Samples of the training part that peers calibrate on, as many as ours does by itself."""


@dataclass(frozen=True)
class Subject:
    """A real model, data for it, and what its work is worth."""

    model: Callable[[], Path]
    dataset: Callable[[], Path]
    judge: Callable[[Path], dict[str, float]]
    """Measures, in percent, on data that no step has seen; the first is what counts."""

    @cached_property
    def original(self) -> dict[str, float]:
        """What the model is worth before any step."""
        return self.judge(self.model())

    def lost(self, measured: Mapping[str, Any]) -> float:
        """Return the points lost of what counts."""
        counts = next(iter(self.original))
        return self.original[counts] - float(measured[counts])

    @cached_property
    def weights(self) -> float:
        """The share of the file that its weights take, those in bodies among them."""
        model = load(self.model())
        lift_constants(model)
        values = [value for graph in model.graphs() for value in graph.initializers.values()]
        tensors = [value.const_value for value in values if value.dtype == ir.DataType.FLOAT]
        return sum(each.nbytes for each in tensors if each) / self.model().stat().st_size

    @cached_property
    def calibration(self) -> list[Feeds]:
        """What runs on the calibration samples read, of the part that the engine trains on."""
        with tempfile.TemporaryDirectory(prefix="planish-bench-") as scratch:
            samples = samples_of(self.model(), self.dataset(), Path(scratch))
            rows = split(len(samples), samples.targets, SEED).train.tolist()
            return [feeds for feeds, _ in samples.take(rows).draw(CALIBRATION, SEED).runs()]


def samples_of(model: Path, dataset: Path, scratch: Path) -> Samples:
    """Return a dataset as the engine reads it for a model; its arrays lie in ``scratch``."""
    (scratch / UPLOAD).symlink_to(model)
    inspect_model(scratch / UPLOAD, scratch)
    return evaluation_set_of(scratch / ORIGINAL, dataset, scratch).samples
