"""Graphs whose first dimension is not what counts samples go through every method."""

from typing import Any

import pytest

from tests.workers.field import graphs
from tests.workers.field.conftest import Compress

TRAINED = {"epochs": 1, "learning_rate": 1e-3}
MACS = 12 * (5 * 32 * 32 + 2 * 32 * 64 - 32 * 32 + 32 * 2 + 2 * 12 * 32)
STEPS: dict[str, dict[str, Any]] = {
    "channels": {"method": "prune", "ratio": 0.2},
    "gradients": {"method": "prune", "ratio": 0.2, "criterion": "taylor", "recover": TRAINED},
    "zeros": {"method": "prune", "granularity": "unstructured", "sparsity": 0.5},
    "static": {"method": "quantize", "mode": "static", "force": True},
    "dynamic": {"method": "quantize", "mode": "dynamic", "force": True},
    "half": {"method": "quantize", "mode": "float16", "force": True},
    "blocks": {"method": "quantize", "mode": "weight_only", "algorithm": "gptq"},
    "trained": {"method": "quantize", "mode": "qat", "recover": TRAINED},
    "low rank": {"method": "low_rank", "ratio": 0.2, "recover": TRAINED},
    "shared": {"method": "cluster", "clusters": 16},
    "student": {"method": "distill", "student": {"derive": {"width": 0.8}}, "recover": TRAINED},
}


@pytest.mark.parametrize("name", STEPS)
def test_one_sample_at_a_time_goes_through_every_method(compress: Compress, name: str) -> None:
    """Two samples together fail inside: the graph declares any number, and a Reshape holds a 1."""
    report = compress(graphs.one_sample_only(), STEPS[name])
    assert report.step_reports[0].layers or STEPS[name]["method"] == "distill"
    assert report.compressed.fidelity is not None
    assert report.baseline.macs == MACS


@pytest.mark.parametrize("name", STEPS)
def test_samples_along_the_second_axis_go_through_every_method(
    compress: Compress, name: str
) -> None:
    report = compress(graphs.steps_first(), STEPS[name])
    assert report.step_reports[0].layers
    fidelity = report.compressed.fidelity
    assert fidelity is not None
    assert fidelity.agreement > 1 / 5, "better than one of five tags at random"
    assert any("work of LSTM is not among" in note for note in report.evaluation.notes)
    if STEPS[name]["method"] == "prune" and "ratio" in STEPS[name]:
        assert report.compressed.macs < report.baseline.macs
