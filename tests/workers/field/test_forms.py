"""Forms that other exporters write go through every method."""

from typing import Any

import pytest

from tests.workers.field import forms
from tests.workers.field.conftest import Compress

ONCE = {"epochs": 1, "learning_rate": 1e-3}
CALIBRATED: dict[str, Any] = {"method": "quantize", "mode": "static", "force": True}
TRAINED: dict[str, Any] = {"method": "quantize", "mode": "qat", "recover": ONCE}


@pytest.mark.parametrize("step", [CALIBRATED, TRAINED], ids=lambda step: step["mode"])
def test_a_sample_may_be_a_whole_input_of_any_size(
    compress: Compress, step: dict[str, Any]
) -> None:
    report = compress(forms.message_passing(), step)
    assert len(report.step_reports[0].layers) == 3
    assert report.baseline.macs == 6 * 8 * 24 + 9 * 24 * 24 + 6 * 24 * 3
    fidelity = report.compressed.fidelity
    assert fidelity is not None
    assert (fidelity.explained or 0) > 0.95


@pytest.mark.parametrize("probability", [True, False])
def test_one_score_answers_yes_or_no(compress: Compress, *, probability: bool) -> None:
    """The score is right for every sample: it is above 0.5 as a probability, above 0 as a logit."""
    report = compress(forms.one_score(probability=probability), TRAINED)
    quality = report.baseline.quality
    assert quality is not None
    assert (quality.metric, quality.value) == ("top1", 1.0)
    compressed = report.compressed.quality
    assert compressed is not None
    assert compressed.value > 0.8
