"""Figures and choices see each output, and each of its channels, in its own units."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from tests.workers.field.conftest import Compress
from tests.workers.field.graphs import Field, boxes_beside_scores
from tests.workers.nearness import outputs_explained
from workers.compression.samples.context import Samples

STATIC = {"method": "quantize", "mode": "static", "force": True}
SCORES = {1: ("all", range(4, 10)), 2: ("scores", range(6))}


def written(directory: Path, name: str, field: Field) -> Path:
    path = directory / f"{name}.onnx"
    path.write_bytes(field.model)
    return path


def answers(model: Path | bytes, field: Field, rows: list[int]) -> list[np.ndarray]:
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    outputs: list[np.ndarray] = session.run(None, {"x": field.data["x"][rows]})
    return outputs


@pytest.mark.parametrize("outputs", [1, 2])
def test_destroyed_scores_are_farther_than_boxes_off_by_two_pixels(
    tmp_path: Path, outputs: int
) -> None:
    field = boxes_beside_scores(outputs=outputs)
    samples = Samples(field.data, None, range(40))
    original = written(tmp_path, "original", field)
    off = written(tmp_path, "off", boxes_beside_scores(outputs=outputs, shift=2))
    broken = written(tmp_path, "broken", boxes_beside_scores(outputs=outputs, turned=True))
    assert outputs_explained(original, off, samples) > 0.99
    assert outputs_explained(original, broken, samples) < 0.7


@pytest.mark.parametrize("outputs", [1, 2])
def test_the_report_names_the_channel_that_keeps_the_least(
    compress: Compress, tmp_path: Path, outputs: int
) -> None:
    field = boxes_beside_scores(outputs=outputs)
    report = compress(field, {**STATIC, "correct_bias": False})
    found = report.compressed.fidelity
    assert found is not None
    rows = report.evaluation.indices
    pairs = zip(
        answers(field.model, field, rows),
        answers(tmp_path / "job" / "artifacts" / "model.onnx", field, rows),
        strict=True,
    )
    kept = [
        1 - np.square(a - b).mean((0, 2, 3), dtype=float) / a.var((0, 2, 3), dtype=float)
        for a, b in pairs
    ]
    assert found.explained == pytest.approx(np.mean([each.mean() for each in kept]), abs=1e-4)
    assert found.worst is not None
    assert found.worst.explained == pytest.approx(min(each.min() for each in kept), abs=1e-4)
    output, channels = SCORES[outputs]
    assert (found.worst.output, found.worst.channel in channels) == (output, True)
    assert found.worst.channel == kept[-1].argmin()


def test_corrected_biases_keep_more_of_the_channel_that_keeps_the_least(
    compress: Compress,
) -> None:
    field = boxes_beside_scores()

    def least(*, correct_bias: bool) -> float:
        step = {**STATIC, "correct_bias": correct_bias, "learn_rounding": False}
        found = compress(field, step, name=str(correct_bias)).compressed.fidelity
        assert found is not None
        assert found.worst is not None
        return found.worst.explained

    assert 1 - least(correct_bias=True) < 0.8 * (1 - least(correct_bias=False))
