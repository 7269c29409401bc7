"""What hangs together is found: a cut graph computes what the masked whole graph computes."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import rapidocr

from app.domain.directory import MODEL
from tests.workers import zoo
from workers.compression.graph import equivalence, runtime, shapes, stats
from workers.compression.graph.editor import name_nodes
from workers.compression.graph.load import load, save
from workers.compression.intake.inspect import inspect_model
from workers.compression.methods.prune.cut import cut
from workers.compression.methods.prune.groups import Analysis, Removed, analyse
from workers.compression.methods.prune.masks import mask
from workers.compression.methods.prune.survey import survey_graph
from workers.compression.samples.context import Context

MODELS = Path(rapidocr.__file__).parent / "models"
REAL = (
    "PP-OCRv6_rec_small.onnx",
    "PP-OCRv6_det_small.onnx",
    "ch_ppocr_mobile_v2.0_cls_mobile.onnx",
)

# How many of the multiply-accumulates are left when half of every group goes.
LEFT = {
    "mlp": 0.4,
    "residual": 0.3,
    "inverted_residual": 0.4,
    "dense_concat": 0.3,
    "convnext": 0.7,
    "vit": 0.6,
    "bert": 0.55,
    "encoder_decoder": 0.3,
}


def _real(name: str, directory: Path) -> ir.Model:
    inspect_model(MODELS / name, directory)
    return load(directory / MODEL)


def _removed(analysis: Analysis, share: float, seed: int = 0) -> Removed:
    random = np.random.default_rng(seed)
    removed = analysis.none_removed()
    for group in analysis.groups:
        removed[random.permutation(group.units)[: int(len(group.units) * share)]] = True
    return removed


def _outputs(model: ir.Model, feeds: runtime.Arrays, path: Path) -> runtime.Arrays:
    save(model, path)
    return runtime.run(runtime.open_session(path), feeds)


def _prove(model: ir.Model, directory: Path, left: float) -> None:
    name_nodes(model)
    survey = survey_graph(model, Context(train=None, seed=0, threads=1))
    analysis = analyse(model, survey.shapes, lambda _: False)
    for share in (0.25, 0.5):
        removed = _removed(analysis, share)
        masked = mask(model.clone(), analysis, removed)
        smaller = cut(model.clone(), analysis, removed)
        for feeds in survey.trials:
            expected = _outputs(masked, feeds, directory / "masked.onnx")
            given = _outputs(smaller, feeds, directory / "cut.onnx")
            assert equivalence.difference(expected, given) is None
    sizes = shapes.sizes_of(model, survey.trials[0])
    before, after = (stats.measure(each, sizes, survey.trials[0]) for each in (model, smaller))
    assert after.macs < left * before.macs
    assert after.parameters < before.parameters
    for old, new in zip(model.graph.inputs, smaller.graph.inputs, strict=True):
        assert (old.name, old.dtype, str(old.shape)) == (new.name, new.dtype, str(new.shape))


@pytest.mark.parametrize("name", LEFT)
def test_a_cut_graph_computes_what_the_masked_graph_computes(name: str, tmp_path: Path) -> None:
    """Half of every group goes: heads, neurons, channels, through every kind of joint."""
    _prove(zoo.graph(name), tmp_path, LEFT[name])


@pytest.mark.parametrize("name", REAL)
def test_a_real_graph_can_be_cut_without_its_source(name: str, tmp_path: Path) -> None:
    _prove(_real(name, tmp_path), tmp_path, 0.5)
