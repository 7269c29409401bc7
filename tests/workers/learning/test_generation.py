"""Samples are made from a model: as far as it tells what it was made for."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from app.domain.directory import MODEL, ORIGINAL, UPLOAD
from app.domain.generated import Effort
from tests.workers.field.draw import FLOAT, INT64, Drawing, end
from workers.compression.graph import runtime
from workers.compression.graph.load import load
from workers.compression.intake.inspect import inspect_model
from workers.compression.learning import generation
from workers.compression.learning.generation import Made
from workers.compression.learning.generation.objective import roughness
from workers.compression.learning.generation.sources import Network
from workers.compression.samples.context import Context

BATCH = "batch"
PIXELS = Effort("pixels", samples=64, steps=80, minutes=1)
NETWORK = Effort("network", samples=96, steps=30, minutes=1)


def normalised_convolutions(batch: int | str = BATCH, size: float = 1.0) -> bytes:
    """Draw two convolutions with normalisations whose channels have means and scales of their own,
    and a head of four classes; what they read is about as large as ``size``."""
    draw = Drawing(5)
    value, channels = "x", 2
    for width, size_of_input in ((8, size), (8, 1.0)):
        value = draw("Conv", value, draw.weight(width, channels, 3, 3), pads=[1, 1, 1, 1])
        scale, shift = draw.random.uniform(0.5, 2, width), draw.random.uniform(-1, 1, width)
        mean, variance = draw.random.uniform(-1, 1, width), draw.random.uniform(1, 4, width)
        mean, variance = mean * size_of_input, variance * size_of_input**2
        kept = [draw.keep(each.astype(np.float32)) for each in (scale, shift, mean, variance)]
        value = draw("Relu", draw("BatchNormalization", value, *kept))
        channels = width
    pooled = draw("Flatten", draw("GlobalAveragePool", value))
    draw("Gemm", pooled, draw.weight(8, 4), gives=["y"])
    return draw.model([end("x", FLOAT, batch, 2, 8, 8)], [end("y", FLOAT, batch, 4)])


def tagger() -> bytes:
    """Draw a network that reads ids of a table of 30 rows."""
    draw = Drawing(6)
    words = draw("Gather", draw.weight(30, 8), "ids")
    draw("MatMul", draw("Tanh", words), draw.weight(8, 3), gives=["y"])
    return draw.model([end("ids", INT64, BATCH, 7)], [end("y", FLOAT, BATCH, 7, 3)])


def made(raw: bytes, directory: Path, effort: Effort = PIXELS, seed: int = 0) -> Made:
    directory.mkdir(exist_ok=True)
    (directory / UPLOAD).write_bytes(raw)
    inspect_model(directory / UPLOAD, directory)
    context = Context(None, seed, 1)
    return generation.made_once(directory, context, lambda _done: None, effort)


def apart(directory: Path, values: Any) -> float:
    """Return how far the channels of the last normalisation are from what it says of them."""
    original = load(directory / ORIGINAL)
    *_, norm = (node for node in original.graph if node.op_type == "BatchNormalization")
    scale, shift = (
        value.const_value.numpy()
        for value in norm.inputs[1:3]
        if value is not None and value.const_value is not None
    )
    original.graph.outputs.append(norm.outputs[0])
    session = runtime.session_of(original, threads=1)
    (found,) = session.run([str(norm.outputs[0].name)], {"x": values})
    places = np.moveaxis(np.asarray(found), 1, 0).reshape(len(scale), -1)
    means = np.square((places.mean(1) - shift) / scale).mean()
    return float(means + np.square(places.std(1) / scale - 1).mean())


def test_pictures_fit_the_statistics_of_normalisations(tmp_path: Path) -> None:
    found = made(normalised_convolutions(), tmp_path)
    assert found.generated.way == "pixels"
    assert "2 normalisations" in found.generated.note
    pictures = found.samples.arrays["x"]
    assert pictures.shape == (found.generated.samples, 2, 8, 8)
    noise = np.random.default_rng(0).standard_normal(pictures.shape).astype(np.float32)
    assert apart(tmp_path, pictures) < 0.4 * apart(tmp_path, noise)


def test_where_normalisations_were_folded_pictures_are_as_large_as_the_network_expects(
    tmp_path: Path,
) -> None:
    """Nothing says so but the size of what is inside, once it is as a normalisation begins."""

    def size(expected: float) -> float:
        directory = tmp_path / str(expected)
        directory.mkdir()
        (directory / UPLOAD).write_bytes(normalised_convolutions(size=expected))
        inspect_model(directory / UPLOAD, directory)
        found = made((directory / MODEL).read_bytes(), directory / "folded")
        assert "folded" in found.generated.note
        return float(found.samples.arrays["x"].std())

    assert size(0.1) < 0.3 * size(1.0)


@pytest.mark.parametrize("effort", [PIXELS, NETWORK])
def test_the_same_seed_makes_the_same_samples(tmp_path: Path, effort: Effort) -> None:
    """A seed makes the same samples in another directory, and in this one they are made once."""
    raw, few = normalised_convolutions(), replace(effort, steps=8)
    first, again, kept, other = (
        made(raw, tmp_path / name, few, seed)
        for name, seed in (("first", 3), ("again", 3), ("first", 3), ("other", 4))
    )
    assert (first.generated, first.samples.layout) == (kept.generated, kept.samples.layout)
    assert first.samples.made
    assert kept.samples.made
    for same in (again, kept):
        assert np.array_equal(first.samples.arrays["x"], same.samples.arrays["x"])
    assert not np.array_equal(first.samples.arrays["x"], other.samples.arrays["x"])


def test_a_graph_of_one_sample_a_run_gets_samples_too(tmp_path: Path) -> None:
    found = made(normalised_convolutions(1), tmp_path, replace(PIXELS, samples=16, steps=10))
    assert found.generated.way == "pixels"
    assert found.samples.layout.size == 1
    assert len(found.samples) == 16


def test_progress_is_that_of_the_time_where_that_ends_first(tmp_path: Path) -> None:
    (tmp_path / UPLOAD).write_bytes(normalised_convolutions())
    inspect_model(tmp_path / UPLOAD, tmp_path)
    seconds, done = itertools.count(), list[float]()
    context = Context(None, 0, 1, clock=lambda: float(next(seconds)))
    generation.made_once(tmp_path, context, done.append, replace(PIXELS, steps=10_000))
    assert done == sorted(done)
    assert done[-1] > 0.9


def test_ids_come_from_the_table(tmp_path: Path) -> None:
    found = made(tagger(), tmp_path, NETWORK)
    assert found.generated.way == "declared"
    ids = found.samples.arrays["ids"]
    assert ids.min() >= 0
    assert ids.max() < 30
    assert len(np.unique(ids)) > 20


def test_where_no_gradient_reaches_the_input_it_is_drawn_as_declared(tmp_path: Path) -> None:
    """Sign has no gradient, so nothing tells a sample how to be better."""
    draw = Drawing(7)
    draw("Gemm", draw("Sign", "x"), draw.weight(6, 4), gives=["y"])
    raw = draw.model([end("x", FLOAT, BATCH, 6)], [end("y", FLOAT, BATCH, 4)])
    found = made(raw, tmp_path)
    assert found.generated.way == "declared"
    assert len(found.samples) == PIXELS.samples


def test_a_network_makes_samples_of_any_shape() -> None:
    shapes = {
        "picture": (3, 18, 21), "channels_last": (18, 21, 3), "table": (9, 40), "signal": (1, 300),
        "vector": (5,),
    }  # fmt: skip
    torch.manual_seed(0)
    values = Network(shapes, "cpu").make(16, torch.Generator().manual_seed(0))
    for name, shape in shapes.items():
        assert values[name].shape == (16, *shape)
        assert float(values[name].detach().mean()) == pytest.approx(0, abs=0.1), name
        assert float(values[name].detach().std()) == pytest.approx(1, abs=0.2), name


def test_no_number_of_a_picture_is_far_from_the_mean() -> None:
    """A few bright spots would have the variance of a batch, and pictures were dark beside them."""
    torch.manual_seed(0)
    network = Network({"picture": (3, 16, 16), "table": (9, 40)}, "cpu")
    for weights in network.parameters():
        weights.data *= 100
    for values in network.make(16, torch.Generator().manual_seed(0)).values():
        assert float(values.detach().abs().max()) <= 2.5


def test_neighbours_are_found_in_both_layouts() -> None:
    """A picture that changes from channel to channel alone is smooth."""
    flat = torch.arange(3.0)[None, :, None, None].expand(2, 3, 8, 8)
    assert float(roughness(flat)) == 0
    assert float(roughness(flat.movedim(1, 3))) == 0
    steep = torch.arange(8.0).expand(2, 3, 8, 8)
    assert float(roughness(steep)) == float(roughness(steep.movedim(1, 3))) == 1
    assert float(roughness(torch.ones(2, 5))) == 0
