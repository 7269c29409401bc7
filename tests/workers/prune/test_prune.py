"""Pruning as a step of a job: what is asked for is what is measured."""

from pathlib import Path
from typing import Any

import pytest

from tests.workers.engine.conftest import Run


@pytest.mark.parametrize("model", ["cnn", "mlp"])
@pytest.mark.parametrize("of", ["macs", "parameters", "size"])
def test_the_asked_share_is_removed_and_little_more(
    job: Run, exported: dict[str, Path], model: str, of: str
) -> None:
    report = job(exported[model], {"method": "prune", "ratio": 0.5, "of": of}).report
    assert report is not None
    field = {"size": "size_bytes"}.get(of, of)
    before, after = getattr(report.baseline, field), getattr(report.compressed, field)
    assert 0.35 < after / before < 0.56
    assert report.compressed.parameters < report.baseline.parameters


@pytest.mark.parametrize("criterion", ["magnitude", "lamp", "bn_scale", "fpgm", "random"])
def test_every_criterion_of_weights_prunes_without_data(
    job: Run, exported: dict[str, Path], criterion: str
) -> None:
    step: dict[str, Any] = {"method": "prune", "ratio": 0.4, "criterion": criterion}
    report = job(exported["cnn"], step).report
    assert report is not None
    assert report.compressed.macs < 0.61 * report.baseline.macs
