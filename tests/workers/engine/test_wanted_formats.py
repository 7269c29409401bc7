"""Auto takes forms of layers that the wanted formats hold; what a format lacks fails no job."""

from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from app.domain.layer_forms import IN_WORDS, LAYER_FORMS
from app.domain.steps import Quantize
from app.domain.targets import OutputFormat
from tests.workers.engine.conftest import Run, report_of
from tests.workers.engine.stored import drawn, named, store_graph
from tests.workers.intake.models import value
from workers.compression.measure.ratio import Ratio
from workers.compression.methods.quantize import auto, quantize
from workers.compression.samples.context import Context, Samples

RNG = np.random.default_rng(11)
X = RNG.standard_normal((40, 64)).astype(np.float32)
DATA, RUNS, BLOCKS, FEW_BITS = (IN_WORDS[form] for form in LAYER_FORMS)


@pytest.fixture
def products(tmp_path: Path) -> Path:
    """Two products, in all forms of which a net gets smaller."""
    shapes = {"w1": (64, 512), "w2": (512, 64)}
    weights = drawn(RNG, shapes)
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"], "first"),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("MatMul", ["r", "w2"], ["y"], "last"),
    ]
    path = tmp_path / "products.onnx"
    store_graph(path, nodes, [value("x", "N", 64)], [value("y", "N", 64)], weights)
    return path


def titles(path: Path, deliver: list[OutputFormat], monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return what auto considers; every form is said to be as fast as every other."""
    monkeypatch.setattr(auto, "speed_ratio", lambda *_, **__: Ratio(1.2, 1.1, 1.3))
    samples = Samples({"x": X}, None, range(32))
    context = Context(
        samples, seed=0, threads=1, example=samples.first_run(), original=path,
        max_quality_drop=0.9, deliver=deliver,
    )  # fmt: skip
    found = quantize(named(path), Quantize(prefer="size"), context, lambda _: None)
    return {choice.title.partition(",")[0] for choice in found.choices}


def test_a_form_that_a_wanted_format_lacks_is_no_candidate(
    products: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = titles(products, ["source", "onnx"], monkeypatch)
    assert DATA in source
    assert not {RUNS, BLOCKS} & source
    phone = titles(products, ["litert", "onnx"], monkeypatch)
    assert DATA in phone
    assert not {RUNS, BLOCKS, FEW_BITS} & phone


def test_weights_are_only_stored_where_a_wanted_format_holds_that(products: Path) -> None:
    """Without data no layer computes in integers."""
    model = named(products)
    wanted: list[tuple[list[OutputFormat], bool]] = [
        (["litert", "onnx"], True),
        (["litert"], False),
    ]
    for deliver, smaller in wanted:
        context = Context(None, seed=0, threads=1, deliver=deliver)
        found = quantize(model.clone(), Quantize(), context, lambda _: None)
        assert bool(found.layers) is smaller
        assert all(layer.bytes_before == 4 * 64 * 512 for layer in found.layers), "as it was given"
        assert all("float32 →" in layer.change for layer in found.layers)


def test_what_auto_makes_is_a_torch_program(job: Run, products: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.npz"
    np.savez(data, allow_pickle=False, x=X)
    step = {"method": "quantize", "prefer": "size"}
    result = job(products, step, data=data, deliver=["onnx", "pt2", "coreml"])
    report = report_of(result)
    assert report.step_reports[0].layers
    assert [artifact.format for artifact in result.artifacts] == ["onnx", "pt2", "coreml"]
    program = result.artifacts[1]
    assert program.fidelity is not None
    assert program.fidelity.kept > 0.97


def test_shared_values_are_floats_in_a_torch_program(job: Run, products: Path) -> None:
    """Indices of four bits have no type in torch."""
    few = {"method": "cluster", "clusters": 16}
    result = job(products, few, deliver=["onnx", "pt2", "coreml"])
    report_of(result)
    program = result.artifacts[1]
    assert program.max_error is not None
    assert program.max_error < 1e-5
