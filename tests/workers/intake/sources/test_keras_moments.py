"""What Keras runs moment by moment takes any number of moments, and any batch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnxruntime as ort
import pytest
import torch
from keras import layers as k
from numpy.typing import NDArray

from app.domain.models import ModelHints
from tests.workers.intake.sources.reading import EXACT
from workers.compression.intake.sources.export import export
from workers.compression.intake.sources.keras import read_archive

pytestmark = pytest.mark.filterwarnings("ignore")  # of Keras's own deprecations


def series(seed: int, rows: int, moments: int) -> NDArray[Any]:
    draw = np.random.default_rng(seed)
    return draw.standard_normal((rows, moments, 4)).astype(np.float32)


def clips(seed: int, rows: int, moments: int) -> NDArray[Any]:
    draw = np.random.default_rng(seed)
    return draw.standard_normal((rows, moments, 4, 4, 2)).astype(np.float32)


def texts(seed: int, rows: int, moments: int) -> NDArray[Any]:
    """Return texts with gaps and ends, and one without any word."""
    words = np.random.default_rng(seed).integers(0, 20, (rows, moments))
    words[-1] = 0
    return words.astype(np.int32)


def _masked(x: Any) -> Any:
    return k.Embedding(20, 3, mask_zero=True)(x)


# ruff: noqa: PLW0108 (each network gets layers of its own, made when they are put in)
SERIES: dict[str, Callable[[Any], Any]] = {
    "SimpleRNN": lambda x: k.SimpleRNN(4, return_sequences=True, go_backwards=True)(x),
    "another activation": lambda x: k.LSTM(3, activation="relu")(x),
    "another order": lambda x: k.GRU(3, reset_after=False)(x),
    "several cells": lambda x: k.RNN([k.LSTMCell(4), k.GRUCell(3)], return_state=True)(x)[0],
    "dropped out": lambda x: k.SimpleRNN(3, dropout=0.5, recurrent_dropout=0.5)(x),
}
TEXTS: dict[str, Callable[[Any], Any]] = {
    "LSTM": lambda x: k.LSTM(3, return_sequences=True)(_masked(x)),
    "backwards": lambda x: k.GRU(3, go_backwards=True)(_masked(x)),
    "zeros for gaps": lambda x: k.SimpleRNN(3, return_sequences=True, zero_output_for_mask=True)(
        _masked(x)
    ),
    "Bidirectional": lambda x: k.Bidirectional(k.LSTM(2, return_sequences=True))(_masked(x)),
}
CLIPS: dict[str, Callable[[Any], Any]] = {
    "ConvLSTM2D": lambda x: k.ConvLSTM2D(2, 3, padding="same", return_sequences=True)(x),
    "ConvLSTM2D, strided": lambda x: k.ConvLSTM2D(2, 3, strides=2)(x),
    "TimeDistributed": lambda x: k.TimeDistributed(k.Conv2D(3, 2))(x),
}
KINDS = {"series": (SERIES, series), "texts": (TEXTS, texts), "clips": (CLIPS, clips)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_graph_answers_as_keras_for_another_number(tmp_path: Path, kind: str) -> None:
    """One network has an output for each layer, so that one export serves for all."""
    keras.utils.set_random_seed(0)
    layers, rows = KINDS[kind]
    example, other = rows(0, 2, 3), rows(1, 4, 5)
    x = k.Input((None, *example.shape[2:]), dtype=str(example.dtype), name="x")
    keras.Model(x, [put(x) for put in layers.values()]).save(tmp_path / "model.keras")
    program = read_archive(tmp_path / "model.keras", ModelHints())
    export(program, [torch.from_numpy(example)], list(layers), tmp_path / "model.onnx")
    session = ort.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    found = session.run(None, {"x": other})
    for name, ours, theirs in zip(
        layers, found, program.run([torch.from_numpy(other)]), strict=True
    ):
        np.testing.assert_allclose(ours, theirs.numpy(), atol=EXACT, err_msg=name)
