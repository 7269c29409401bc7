"""Graphs at the edge of what has meaning go through every method, or are left with the reason."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from tests.workers.field import edges
from tests.workers.field.conftest import CarryOut, Compress
from tests.workers.field.graphs import Field

ONCE = {"epochs": 1, "learning_rate": 1e-3}
CHANNELS: dict[str, Any] = {"method": "prune", "ratio": 0.3}
ZEROS: dict[str, Any] = {"method": "prune", "granularity": "unstructured"}
HALF: dict[str, Any] = {"method": "quantize", "mode": "float16", "force": True}
BLOCKS: dict[str, Any] = {"method": "quantize", "mode": "weight_only", "algorithm": "gptq"}
FEW_BITS: dict[str, Any] = {"method": "quantize", "mode": "static", "weights": "int4"}
STORED: dict[str, Any] = {"method": "quantize", "mode": "weight_only", "weights": "int4"}
CODES: dict[str, Any] = {"method": "cluster", "clusters": 16}
FACTORS: dict[str, Any] = {"method": "low_rank", "ratio": 0.2, "rank": "ratio"}
STUDENT: dict[str, Any] = {"method": "distill", "student": {"derive": {}}, "recover": ONCE}


@pytest.mark.parametrize("step", [CHANNELS, ZEROS, BLOCKS, STUDENT], ids=str)
def test_a_weight_without_elements_is_no_obstacle(compress: Compress, step: dict[str, Any]) -> None:
    report = compress(edges.empty_weight(), step)
    assert report.step_reports[0].layers
    assert report.compressed.macs <= report.baseline.macs


@pytest.mark.parametrize(
    ("graph", "step"),
    [
        (edges.spectrogram, HALF),
        (edges.layer_in_a_loop, BLOCKS),
        (edges.spoilt_weight, HALF),
        (edges.other_ranks, BLOCKS),
        (edges.other_ranks, {**FEW_BITS, "force": True, "learn_rounding": True}),
        (edges.other_ranks, {**STORED, "unpack": "load", "learn_rounding": True}),
        (edges.drawn_anew, CODES),
        (edges.drawn_anew, FEW_BITS),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_all_that_can_change_does(
    compress: Compress, graph: Callable[[], Field], step: dict[str, Any]
) -> None:
    report = compress(graph(), step)
    assert report.step_reports[0].layers
    fidelity = report.compressed.fidelity
    assert fidelity is not None
    assert (fidelity.explained or 0) > 0.85


def test_a_weight_on_the_left_is_cut_and_reported_and_its_zeros_are_refused(
    carry_out: CarryOut, compress: Compress
) -> None:
    report = compress(edges.weight_on_the_left(), CHANNELS)
    changes = [layer.change for layer in report.step_reports[0].layers]
    assert len(changes) == 2
    assert all(change.startswith("weight on the left ") for change in changes)
    zeros = carry_out(edges.weight_on_the_left(), ZEROS, name="zeros")
    assert zeros.problem is not None
    assert zeros.problem.type == "nothing-changed"
    assert "its weight is the left operand" in zeros.problem.detail


@pytest.mark.parametrize("step", [ZEROS, STORED, FEW_BITS, CODES, FACTORS], ids=str)
def test_weights_of_an_operator_that_no_method_knows_are_named(
    compress: Compress, step: dict[str, Any]
) -> None:
    [report] = compress(edges.masked_attention(), step).step_reports
    reasons = {each.node: each.reason for each in report.skipped}
    assert "Attention" in reasons["Attention_0"]


@pytest.mark.parametrize("step", [HALF, STUDENT], ids=str)
def test_what_a_file_says_of_itself_is_kept(
    compress: Compress, tmp_path: Path, step: dict[str, Any]
) -> None:
    compress(edges.with_metadata(), step)
    [result] = (tmp_path / "job" / "artifacts").glob("*.onnx")
    kept = {entry.key: entry.value for entry in onnx.load(result).metadata_props}
    assert kept == {"names": "cat, dog, owl, bee", "stride": "32"}
