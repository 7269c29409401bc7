"""Models that others trained and exported, on rendered lines of text: smaller, and near."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rapidocr
from PIL import Image, ImageDraw, ImageFont

from tests.workers.engine.conftest import Run, report_of

MODELS = Path(rapidocr.__file__).parent / "models"
ORIENTATION = "ch_ppocr_mobile_v2.0_cls_mobile.onnx"
READER = "PP-OCRv6_rec_small.onnx"
FINDER = "PP-OCRv6_det_small.onnx"

WORDS = "invoice total amount date server queue worker thin smooth metal 2024 1999".split()  # noqa: SIM905 (words)


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Twenty rendered lines of text for each model, ``x`` of shape [20, 3, height, 192]."""
    generator = np.random.default_rng(0)
    images = []
    for _ in range(20):
        image = Image.new("RGB", (192, 64), tuple(generator.integers(180, 256, 3).tolist()))
        text = " ".join(generator.choice(WORDS, 2))
        font = ImageFont.load_default(int(generator.integers(20, 30)))
        ImageDraw.Draw(image).text((6, 8), text, font=font, fill=(20, 20, 60))
        images.append(np.asarray(image, np.float32).transpose(2, 0, 1) / 127.5 - 1)
    directory = tmp_path_factory.mktemp("lines")
    paths = {}
    for model, height in ((ORIENTATION, 48), (READER, 48), (FINDER, 64)):
        paths[model] = directory / f"{model}.npz"
        x = np.stack(images).astype(np.float32)[:, :, :height]
        np.savez(paths[model], allow_pickle=False, x=x)
    return paths


@pytest.mark.parametrize(
    ("model", "step", "smaller", "least_db"),
    [
        (ORIENTATION, {"mode": "static", "force": True}, 1.8, 15),
        (ORIENTATION, {"mode": "float16", "force": True}, 1.7, 40),
        (READER, {"mode": "static", "force": True}, 3.5, 10),
        (READER, {"mode": "dynamic", "force": True}, 1.4, 30),
        (READER, {"mode": "float16", "force": True}, 1.9, 40),
        (FINDER, {"mode": "static", "force": True, "activations": "int16"}, 3.4, 15),
        (FINDER, {"mode": "float16", "force": True}, 1.9, 35),
    ],
    ids=lambda value: value["mode"] if isinstance(value, dict) else None,
)
def test_a_real_model_gets_smaller_and_stays_near(
    job: Run,
    lines: dict[str, Path],
    model: str,
    step: dict[str, str],
    smaller: float,
    least_db: float,
) -> None:
    report = report_of(job(MODELS / model, {"method": "quantize", **step}, data=lines[model]))
    assert report.baseline.size_bytes / report.compressed.size_bytes > smaller
    assert report.compressed.macs == report.baseline.macs
    assert report.compressed.fidelity is not None
    assert (report.compressed.fidelity.sqnr_db or 0) > least_db


PRUNED = {"method": "prune", "ratio": 0.2, "criterion": "magnitude", "reconstruct": False}
THINNER = {"method": "low_rank", "ratio": 0.2, "rank": "ratio", "whiten": False}
SHARED = {"method": "cluster", "clusters": 16}
PACKED = {"method": "quantize", "mode": "weight_only", "weights": "int8"}


@pytest.mark.parametrize(
    ("model", "step", "smaller", "fewer"),
    [
        (READER, PRUNED, 1.1, 1.2),
        (READER, THINNER, 1.3, 1.2),
        (READER, SHARED, 6.0, 1.0),
        (READER, PACKED, 1.4, 1.0),
        (FINDER, PRUNED, 1.1, 1.2),
        (FINDER, THINNER, 1.05, 1.2),
        (FINDER, SHARED, 5.0, 1.0),
    ],
    ids=lambda value: value["method"] if isinstance(value, dict) else None,
)
def test_every_method_acts_on_a_real_model(
    job: Run,
    lines: dict[str, Path],
    model: str,
    step: dict[str, Any],
    smaller: float,
    fewer: float,
) -> None:
    """The result is smaller, does as little as asked for, and answers with finite numbers.

    What decides what is lost is left at its quickest: quality is tested on small models.
    """
    report = report_of(job(MODELS / model, step, data=lines[model]))
    assert report.baseline.size_bytes / report.compressed.size_bytes > smaller
    assert report.baseline.macs / report.compressed.macs >= fewer
    assert report.step_reports[0].layers
    assert report.compressed.fidelity is not None
    assert (report.compressed.fidelity.sqnr_db or 0) > 0


def test_a_wrecked_classifier_is_not_called_equal_without_data(job: Run) -> None:
    """On random inputs the original gives one answer to all, and so does what is left of it."""
    wish = {"max_quality_drop": 0.05}
    result = job(MODELS / ORIENTATION, THINNER, require=wish)
    assert result.problem is not None
    assert result.problem.type == "quality-below-requirement"
    assert "name a dataset" in result.problem.detail
    assert result.report is not None
    found = result.report.compressed.fidelity
    assert found is not None
    assert found.explained is not None
    assert found.commonest == found.agreement == 1
    assert found.explained < 0
    assert "keeps nothing of the original's variance" in result.report.verdict


def test_data_that_a_model_fails_on_is_a_mismatch_that_says_so(
    job: Run, lines: dict[str, Path], tmp_path: Path
) -> None:
    """The finder adds maps that only meet at multiples of 32."""
    odd = tmp_path / "odd.npz"
    with np.load(lines[FINDER]) as arrays:
        np.savez(odd, allow_pickle=False, x=arrays["x"][:, :, :47])
    for mode in ("static", "dynamic"):
        result = job(MODELS / FINDER, {"method": "quantize", "mode": mode}, data=odd)
        assert result.problem is not None
        assert result.problem.type == "dataset-mismatch"
        assert "'x' [1, 3, 47, 192]" in result.problem.detail


def test_a_model_that_a_step_cannot_act_on_is_returned_as_it_was_and_says_so(
    job: Run, lines: dict[str, Path]
) -> None:
    result = job(
        MODELS / FINDER,
        {"method": "quantize", "mode": "dynamic", "force": True},
        data=lines[FINDER],
    )
    assert result.report is not None
    assert result.problem is not None
    assert result.problem.type == "nothing-changed"
    assert "(quantize): onnxruntime's dynamic Conv" in result.report.verdict
    assert len(result.report.step_reports[0].skipped) > 50
