"""A chart of sensitivity: what each layer loses and saves in each form, measured alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from app.domain.sensitivity import FORMS, Sensitivity
from tests.workers.engine.conftest import Run, report_of
from tests.workers.engine.test_quality_bound import net

ORDER: dict[str, Any] = {"kind": "measure_sensitivity"}
_PLACE = {form.name: place for place, form in enumerate(FORMS)}


def _chart(job: Run, model: Path, data: Path, **order: Any) -> Sensitivity:
    result = job(model, data=data, **{**ORDER, **order})
    assert result.problem is None, result.problem
    assert result.sensitivity is not None
    return result.sensitivity


def _fragile(tmp_path: Path) -> tuple[Path, Path]:
    """A net whose first layer reads small values beside large ones that do not matter."""
    path, data = tmp_path / "fragile.onnx", tmp_path / "fragile.npz"
    onnx.save(net(), path)
    x = np.random.default_rng(1).standard_normal((200, 16)).astype(np.float32)
    x[:, 0] *= 500
    np.savez(data, x=x)
    return path, data


def test_the_layer_that_is_known_to_be_worst_in_integers_costs_most(
    job: Run, tmp_path: Path
) -> None:
    chart = _chart(job, *_fragile(tmp_path))
    cost = {
        layer.name: row[_PLACE["int8"]] for layer, row in zip(chart.layers, chart.cost, strict=True)
    }
    assert list(cost) == ["fragile", "sound", "steady"]
    assert cost["fragile"] is not None
    assert cost["fragile"] > 0.3
    assert max(cost["sound"] or 0, cost["steady"] or 0) < 0.01
    stored = [row[_PLACE["stored_int8"]] for row in chart.cost]
    assert max(each or 0 for each in stored) < 0.01, "its weights are harmless; its input is not"
    assert chart.answers is not None
    assert (chart.answers[0][_PLACE["int8"]] or 0) > 0.1


def test_every_cell_of_a_trained_net_is_measured_or_says_why(
    job: Run, exported: dict[str, Path], digits_npz: Path
) -> None:
    chart = _chart(job, exported["cnn"], digits_npz)
    assert [layer.operator for layer in chart.layers] == ["Conv"] * 4 + ["Gemm"]
    for costs, saved, reasons in zip(chart.cost, chart.saved, chart.reasons, strict=True):
        for cost, gain, reason in zip(costs, saved, reasons, strict=True):
            assert (cost is None) == (gain is None) == (reason is not None)
    dense = [place for place, layer in enumerate(chart.layers) if layer.parameters > 4000]
    for place in dense:
        row = chart.cost[place]
        few, half, most = (row[_PLACE[f"channels_{n}"]] for n in (25, 50, 75))
        assert few is not None
        assert half is not None
        assert most is not None
        assert few >= half >= most
        assert (row[_PLACE["stored_int4"]] or 0) > (row[_PLACE["stored_int8"]] or 0)
        cells = chart.saved[place]
        narrow, stored = cells[_PLACE["channels_25"]], cells[_PLACE["stored_int8"]]
        assert narrow is not None
        assert stored is not None
        assert narrow.macs > 0
        assert narrow.size_bytes > 0
        assert narrow.latency_from == "measured"
        assert (stored.latency_ms, stored.latency_from) == (0.0, "same")
        assert 0.6 < stored.size_bytes / chart.layers[place].size_bytes < 0.8
    last = chart.reasons[-1][_PLACE["channels_50"]]
    assert last == "it is an output of the graph"
    assert json.loads(chart.model_dump_json())["samples"] == chart.samples == 64


def test_when_the_time_is_up_the_larger_layers_are_there(
    job: Run, exported: dict[str, Path], digits_npz: Path
) -> None:
    chart = _chart(job, exported["mlp"], digits_npz, seconds=1e-6)
    assert {reason for row in chart.reasons for reason in row} == {
        "The time of the job was used up by larger layers."
    }


def test_the_same_seed_gives_the_same_costs(job: Run, tmp_path: Path) -> None:
    files = _fragile(tmp_path)
    first, second = _chart(job, *files, name="one"), _chart(job, *files, name="two")
    assert first.cost == second.cost
    assert first.answers == second.answers


def test_samples_may_be_made_from_the_model(job: Run, exported: dict[str, Path]) -> None:
    result = job(exported["mlp"], **ORDER, generated=True)
    assert result.problem is None, result.problem
    assert result.sensitivity is not None
    assert 0 < result.sensitivity.samples <= 64
    assert any("made from the model" in note for note in result.sensitivity.notes)
    costs = [cost for row in result.sensitivity.cost for cost in row if cost is not None]
    assert costs


def test_without_samples_nothing_is_measured(job: Run, exported: dict[str, Path]) -> None:
    result = job(exported["mlp"], **ORDER)
    assert result.problem is not None
    assert result.problem.type == "invalid-dataset"


def test_a_step_reads_a_chart_that_was_measured_on_its_own_training_samples(
    job: Run, tmp_path: Path
) -> None:
    """With another seed, what is held out to judge the result may be among the chart's samples."""
    model, data = _fragile(tmp_path)
    chart = _chart(job, model, data, name="chart").model_dump(mode="json")
    step = {
        "method": "quantize", "mode": "static", "force": True, "ranges": "minmax", "smooth": False,
    }  # fmt: skip
    wish: dict[str, Any] = {"chart": chart, "require": {"max_quality_drop": 0.02}}
    for seed in (0, 1):
        result = job(model, step, data=data, seed=seed, name=f"seed {seed}", **wish)
        [done] = report_of(result).step_reports
        assert [layer.node for layer in done.layers] == ["sound", "steady"]
        assert any("chart of sensitivity" in note for note in done.notes) == (seed == 0)
