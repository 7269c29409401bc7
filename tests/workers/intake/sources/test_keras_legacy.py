"""Files of Keras 1 answer as that Keras did."""

from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from keras import layers

from tests.workers.intake.sources.keras_1 import (
    DRAW,
    TRAINING,
    Array,
    layer,
    old_file,
    random,
)
from tests.workers.intake.sources.reading import EXACT, answers, inspected, rejected

pytestmark = pytest.mark.filterwarnings("ignore")  # of Keras's own deprecations


def hard_sigmoid(x: Array) -> Array:
    """As Keras 1 and 2 define it."""
    return np.clip(0.2 * x + 0.5, 0, 1)


@pytest.mark.parametrize("order", ["tf", "th"])
def test_a_convolutional_network_of_keras_1(tmp_path: Path, order: str) -> None:
    shape = (6, 6, 2) if order == "tf" else (2, 6, 6)
    axis = -1 if order == "tf" else 1
    kernel, bias, scale = random(3, 2, 2, 4), random(4), np.abs(random(4)) + 0.5
    dense, last = random(4 * 3 * 3, 3), random(3)
    statistics = [scale, random(4), random(4), scale]
    config = {
        "class_name": "Sequential",
        "config": [
            layer(
                "Convolution2D", "conv", nb_filter=4, nb_row=3, nb_col=2, border_mode="same",
                subsample=[1, 1], dim_ordering=order, bias=True, activation="relu",
                batch_input_shape=[None, *shape], input_dtype="float32", **TRAINING,
            ),
            layer(
                "BatchNormalization", "norm", mode=0, axis=axis, epsilon=1e-3, momentum=0.9,
                beta_init="zero", gamma_init="one", gamma_regularizer=None,
            ),
            layer(
                "MaxPooling2D", "pool", pool_size=[2, 2], strides=[2, 2], border_mode="valid",
                dim_ordering=order,
            ),
            layer("Dropout", "drop", p=0.5),
            layer("Flatten", "flat"),
            layer("Dense", "scores", output_dim=3, input_dim=None, bias=True,
                  activation="hard_sigmoid", **TRAINING),
        ],
    }  # fmt: skip
    stored = kernel if order == "tf" else kernel.transpose(3, 2, 0, 1)
    weights = {"conv": [stored, bias], "norm": statistics, "scores": [dense, last]}
    file = old_file(tmp_path / "model.h5", config, weights)
    _, conversion = inspected(file, tmp_path / "job")
    assert conversion.max_error < EXACT

    form = "channels_last" if order == "tf" else "channels_first"
    same = keras.Sequential(
        [
            layers.Input(shape),
            layers.Conv2D(4, (3, 2), padding="same", activation="relu", data_format=form),
            layers.BatchNormalization(axis=axis),
            layers.MaxPooling2D(data_format=form),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )
    same.set_weights([kernel, bias, *statistics, dense, last])
    image = DRAW.standard_normal((3, *shape)).astype(np.float32)
    expected = hard_sigmoid(same.predict(image, verbose=0))
    np.testing.assert_allclose(answers(tmp_path / "job", image)[0], expected, atol=1e-5)


@pytest.mark.parametrize("version", ["1.1.0", None])
def test_the_gates_of_an_lstm_of_keras_1(tmp_path: Path, version: str | None) -> None:
    """Each gate has weights of its own, and rounds off as Keras 1 did."""
    table, dense = random(20, 5), [random(4, 2), random(2)]
    gates = {name: (random(5, 4), random(4, 4), random(4)) for name in "icfo"}
    config = {
        "class_name": "Sequential",
        "config": [
            layer("Embedding", "words", input_dim=20, output_dim=5, input_length=7, mask_zero=False,
                  init="uniform", dropout=0.0, W_regularizer=None, batch_input_shape=[None, 7],
                  input_dtype="int32"),
            layer("LSTM", "read", output_dim=4, input_dim=5, input_length=7, inner_init="one",
                  forget_bias_init="one", activation="tanh", inner_activation="hard_sigmoid",
                  return_sequences=False, go_backwards=False, stateful=False, unroll=False,
                  consume_less="cpu", dropout_W=0.1, dropout_U=0.0, U_regularizer=None, **TRAINING),
            layer("Dense", "scores", output_dim=2, activation="linear", **TRAINING),
        ],
    }  # fmt: skip
    arrays = [array for gate in gates.values() for array in gate]
    weights = {"words": [table], "read": arrays, "scores": dense}
    inspected(old_file(tmp_path / "model.h5", config, weights, version), tmp_path / "job")
    words = DRAW.integers(0, 20, (3, 7)).astype(np.int32)
    state, cell = np.zeros((3, 4)), np.zeros((3, 4))
    for step in range(7):
        x = table[words[:, step]]
        i, c, f, o = (x @ w + state @ u + b for w, u, b in gates.values())
        cell = hard_sigmoid(f) * cell + hard_sigmoid(i) * np.tanh(c)
        state = hard_sigmoid(o) * np.tanh(cell)
    expected = state @ dense[0] + dense[1]
    np.testing.assert_allclose(answers(tmp_path / "job", words)[0], expected, atol=1e-5)


def test_a_merge_of_keras_1_is_its_layer(tmp_path: Path) -> None:
    shape = {"batch_input_shape": [None, 3], "input_dtype": "float32"}
    nodes = [["one", 0, 0], ["two", 0, 0]]
    inputs = [
        layer("InputLayer", name, **shape) | {"name": name, "inbound_nodes": []}
        for name in ("one", "two")
    ]
    merge = layer("Merge", "both", mode="concat", concat_axis=1, dot_axes=-1, output_shape=None)
    scores = layer("Dense", "scores", output_dim=2, activation="linear", bias=False)
    network = {
        "name": "model",
        "layers": [
            *inputs,
            merge | {"name": "both", "inbound_nodes": [nodes]},
            scores | {"name": "scores", "inbound_nodes": [[["both", 0, 0]]]},
        ],
        "input_layers": [["one", 0, 0], ["two", 0, 0]],
        "output_layers": [["scores", 0, 0]],
    }
    weight = random(6, 2)
    config = {"class_name": "Model", "config": network}
    inspected(old_file(tmp_path / "model.h5", config, {"scores": [weight]}), tmp_path / "job")
    one, two = random(4, 3), random(4, 3)
    expected = np.concatenate([one, two], 1) @ weight
    np.testing.assert_allclose(answers(tmp_path / "job", one, two)[0], expected, atol=1e-5)


def test_layers_that_keras_3_has_under_another_name(tmp_path: Path) -> None:
    entry = {"batch_input_shape": [None, 6], "dtype": "float32"}
    stack = [
        layer("BatchNormalizationV1", "one", axis=[1], epsilon=1e-3, **entry),
        layer("ThresholdedReLU", "middle", theta=0.5, trainable=True),
        layer("SyncBatchNormalization", "two", axis=[1], epsilon=1e-3),
    ]
    first, second = ([abs(random(6)) + 0.1 for _ in range(4)] for _ in range(2))
    config = {"class_name": "Sequential", "config": {"name": "s", "layers": stack}}
    path = old_file(tmp_path / "model.h5", config, {"one": first, "two": second}, "2.2.4-tf")
    inspected(path, tmp_path / "job")
    x = random(5, 6)

    def normalised(values: Array, weights: list[Array]) -> Array:
        gamma, beta, mean, variance = weights
        found: Array = gamma * (values - mean) / np.sqrt(variance + 1e-3) + beta
        return found

    middle = normalised(x, first)
    expected = normalised(np.where(middle > 0.5, middle, 0), second)
    np.testing.assert_allclose(answers(tmp_path / "job", x)[0], expected, atol=1e-5)


@pytest.mark.parametrize("place", ["/", "model_weights"])
def test_kernels_that_theano_turned_around_are_turned_back(tmp_path: Path, place: str) -> None:
    kernel, bias = random(3, 2, 2, 4), random(4)
    form = {"filters": 4, "kernel_size": [3, 2], "padding": "same", "activation": "relu"}
    entry = {"batch_input_shape": [None, 6, 6, 2], "dtype": "float32"}
    config = {"class_name": "Sequential", "config": [layer("Conv2D", "conv", **form, **entry)]}
    weights = {"conv": [kernel[::-1, ::-1], bias]}
    path = old_file(tmp_path / "model.h5", config, weights, "2.1.0")
    with h5py.File(path, "r+") as file:
        file[place].attrs["backend"] = b"theano"
    inspected(path, tmp_path / "job")
    same = keras.Sequential([layers.Input((6, 6, 2)), layers.Conv2D(**form)])
    same.set_weights([kernel, bias])
    image = random(3, 6, 6, 2)
    expected = same.predict(image, verbose=0)
    np.testing.assert_allclose(answers(tmp_path / "job", image)[0], expected, atol=1e-5)


@pytest.mark.parametrize(
    "broken",
    [layer("Merge", "both", mode=["sum"]), {"class_name": "Dense", "config": [1]}],
    ids=["a mode that is a list", "arguments without names"],
)
def test_a_configuration_that_no_keras_wrote_is_refused(
    tmp_path: Path, broken: dict[str, Any]
) -> None:
    config = {"class_name": "Sequential", "config": [broken]}
    with rejected("cannot build the "):
        inspected(old_file(tmp_path / "model.h5", config, {}), tmp_path / "job")


def test_augmentations_do_nothing_at_inference(tmp_path: Path) -> None:
    kinds = [
        "ColorDegeneration", "Hue", "Saturation", "Sharpness", "Brightness", "Contrast",
    ]  # fmt: skip
    augmented = [getattr(layers, f"Random{kind}")(0.5) for kind in kinds]
    plain = ["Erasing", "GaussianBlur", "Grayscale", "Invert", "Perspective", "Shear"]
    augmented += [getattr(layers, f"Random{kind}")() for kind in plain]
    augmented += [layers.RandomPosterization(4), layers.RandomColorJitter(), layers.MixUp()]
    augmented += [layers.RandomElasticTransform(), layers.CutMix(), layers.RandAugment()]
    head = layers.Conv2D(2, 1)
    model = keras.Sequential([layers.Input((4, 4, 3)), *augmented, layers.AugMix(), head])
    path = tmp_path / "model.keras"
    model.save(path)
    _, conversion = inspected(path, tmp_path / "job")
    assert conversion.max_error < EXACT
