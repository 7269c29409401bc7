"""Stock layers of Keras answer as in Keras, from both kinds of file, and take any batch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from app.domain.models import ModelHints
from tests.workers.intake.sources import keras_zoo
from tests.workers.intake.sources.reading import EXACT, answers, inspected
from workers.compression.intake.sources.keras import read_hdf5

pytestmark = pytest.mark.filterwarnings("ignore")  # of Keras's own deprecations

ALL = {
    "pictures": (keras_zoo.PICTURES, (8, 10, 3), "float32"),
    "series": (keras_zoo.SERIES, (6, 5), "float32"),
    "recurrent": (keras_zoo.RECURRENT, (6, 5), "float32"),
    "clips": (keras_zoo.CLIPS, (4, 4, 4, 2), "float32"),
    "tokens": (keras_zoo.TOKENS, (7,), "int32"),
}


@pytest.mark.parametrize("kind", ALL)
def test_stock_layers_in_hdf5_are_opened_as_they_were(tmp_path: Path, kind: str) -> None:
    """Those too that Keras does not find again: operations, the masks of embeddings."""
    model, rows = network(kind), drawn(kind)
    model.save(tmp_path / "model.h5")
    program = read_hdf5(tmp_path / "model.h5", ModelHints())
    compare(told(model, kind, rows), program.run([torch.from_numpy(rows)]))


@pytest.mark.parametrize("kind", ["pictures", "series", "tokens"])
def test_stock_layers_become_graphs_that_answer_as_in_keras(tmp_path: Path, kind: str) -> None:
    """One network has an output for each layer, so that one conversion serves for all."""
    model, rows = network(kind), drawn(kind)
    model.save(tmp_path / "model.keras")
    found, conversion = inspected(tmp_path / "model.keras", tmp_path / "job")
    assert found.inputs[0].shape == ["batch", *rows.shape[1:]]
    assert conversion.max_error < EXACT
    compare(told(model, kind, rows), answers(tmp_path / "job", rows))


def drawn(kind: str) -> NDArray[Any]:
    """Return three rows that a network of these layers reads; texts end before their rows do."""
    _, shape, dtype = ALL[kind]
    draw = np.random.default_rng(0)
    if dtype == "float32":
        return draw.standard_normal((3, *shape)).astype(dtype)
    texts = draw.integers(1, 50, (3, *shape)) * (np.arange(shape[0]) < [[7], [5], [2]])
    return texts.astype(dtype)


def told(model: Any, kind: str, rows: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Return what Keras answers, by layer."""
    outputs = model(torch.from_numpy(rows), training=False)
    return {name: each.detach().numpy() for name, each in zip(ALL[kind][0], outputs, strict=True)}


def network(kind: str) -> Any:
    """Return a network of all layers of a kind, with weights of which none is 0 or 1."""
    keras.utils.set_random_seed(0)
    layers, shape, dtype = ALL[kind]
    x = keras.layers.Input(shape, dtype=dtype, name="x")
    model = keras.Model(x, [put(x) for put in layers.values()])
    draw = np.random.default_rng(0)
    for variable in model.variables:
        if str(variable.dtype) == "float32":
            values = 0.3 * draw.standard_normal(variable.shape)
            variable.assign(np.abs(values) + 0.1 if "variance" in variable.path else values)
    return model


def compare(told: dict[str, NDArray[Any]], found: Sequence[Any]) -> None:
    """Require each answer to be Keras's, relative to its largest value where that is above 1."""
    errors = {}
    for (name, expected), answer in zip(told.items(), found, strict=True):
        ours = np.asarray(answer, float)
        assert ours.shape == expected.shape, name
        largest = max(1.0, float(np.abs(expected).max()))
        errors[name] = float(np.abs(ours - expected).max()) / largest
    assert {name: error for name, error in errors.items() if not error < EXACT} == {}
