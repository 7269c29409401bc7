"""Models in models of Keras 1 answer as that Keras did.

Kernels are of three by three between three channels: one in a wrong layout has the same shape.
"""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from tests.workers.intake.sources.keras_1 import TRAINING, Array, layer, old_file, random
from tests.workers.intake.sources.reading import answers, inspected, rejected

pytestmark = pytest.mark.filterwarnings("ignore")  # of Keras's own deprecations


def convolution(name: str, **more: Any) -> dict[str, Any]:
    return layer("Convolution2D", name, nb_filter=3, nb_row=3, nb_col=3, border_mode="same",
                 dim_ordering="th", activation="relu", **more, **TRAINING)  # fmt: skip


def stored_convolution(name: str, kernel: Array, bias: Array) -> dict[str, Array]:
    return {f"{name}_W": kernel.transpose(3, 2, 0, 1), f"{name}_b": bias}


def same_convolution() -> Any:
    return layers.Conv2D(3, 3, padding="same", activation="relu", data_format="channels_first")


@pytest.mark.parametrize("outer", ["Sequential", "Model"])
def test_a_model_of_keras_1_in_another_one(tmp_path: Path, outer: str) -> None:
    shape = (3, 6, 6)
    kernel, bias, scale = random(3, 3, 3, 3), random(3), np.abs(random(3)) + 0.5
    statistics = [random(3), scale]
    entry = {"batch_input_shape": [None, *shape], "input_dtype": "float32"}
    inner = [
        convolution("conv", **entry),
        layer("BatchNormalization", "norm", mode=0, axis=1, epsilon=1e-3, **TRAINING),
    ]
    nested: dict[str, Any] = {"class_name": "Sequential", "config": inner}
    pool = layer("GlobalAveragePooling2D", "pool", dim_ordering="th")
    config: dict[str, Any] = {"class_name": "Sequential", "config": [nested, pool]}
    if outer == "Model":
        given = layer("InputLayer", "given", **entry) | {"name": "given", "inbound_nodes": []}
        nested |= {"name": "features", "inbound_nodes": [[["given", 0, 0]]]}
        pool |= {"name": "pool", "inbound_nodes": [[["features", 1, 0]]]}
        network = {
            "name": "model", "layers": [given, nested, pool],
            "input_layers": [["given", 0, 0]], "output_layers": [["pool", 0, 0]],
        }  # fmt: skip
        config = {"class_name": "Model", "config": network}
    weights = {
        **stored_convolution("conv", kernel, bias),
        "norm_gamma": scale, "norm_beta": bias,
        "norm_mean": statistics[0], "norm_std": statistics[1],
    }  # fmt: skip
    file = old_file(tmp_path / "model.h5", config, {"features": weights})
    inspected(file, tmp_path / "job")
    same = keras.Sequential(
        [
            layers.Input(shape),
            same_convolution(),
            layers.BatchNormalization(axis=1),
            layers.GlobalAveragePooling2D(data_format="channels_first"),
        ]
    )
    same.set_weights([kernel, bias, scale, bias, *statistics])
    image = random(3, *shape)
    expected = same.predict(image, verbose=0)
    np.testing.assert_allclose(answers(tmp_path / "job", image)[0], expected, atol=1e-5)


def test_models_without_names_have_their_weights_whatever_their_groups_are_called(
    tmp_path: Path,
) -> None:
    """As Keras 1 names them by itself, from 1 on."""
    entry = {"batch_input_shape": [None, 3, 6, 6], "input_dtype": "float32"}
    inner = [[convolution("one", **entry)], [convolution("two")]]
    nested = [{"class_name": "Sequential", "config": each} for each in inner]
    arrays = [random(3, 3, 3, 3), random(3), random(3, 3, 3, 3), random(3)]
    weights = {
        "sequential_1": stored_convolution("one", *arrays[:2]),
        "sequential_2": stored_convolution("two", *arrays[2:]),
    }
    config = {"class_name": "Sequential", "config": nested}
    inspected(old_file(tmp_path / "model.h5", config, weights), tmp_path / "job")
    same = keras.Sequential([layers.Input((3, 6, 6)), same_convolution(), same_convolution()])
    same.set_weights(arrays)
    image = random(2, 3, 6, 6)
    expected = same.predict(image, verbose=0)
    np.testing.assert_allclose(answers(tmp_path / "job", image)[0], expected, atol=1e-5)


def test_a_model_of_keras_1_in_a_wrapper(tmp_path: Path) -> None:
    entry = {"batch_input_shape": [None, 3, 6, 6], "input_dtype": "float32"}
    inner = {"class_name": "Sequential", "config": [convolution("conv", **entry)]}
    outer = {"batch_input_shape": [None, 2, 3, 6, 6], "input_dtype": "float32"}
    wrapper = layer("TimeDistributed", "frames", layer=inner, **outer, trainable=True)
    arrays = [random(3, 3, 3, 3), random(3)]
    config = {"class_name": "Sequential", "config": [wrapper]}
    weights = {"frames": stored_convolution("conv", *arrays)}
    inspected(old_file(tmp_path / "model.h5", config, weights), tmp_path / "job")
    same = keras.Sequential([layers.Input((3, 6, 6)), same_convolution()])
    same.set_weights(arrays)
    video = random(2, 2, 3, 6, 6)
    frames = same.predict(video.reshape(4, 3, 6, 6), verbose=0)
    expected = frames.reshape(2, 2, *frames.shape[1:])
    np.testing.assert_allclose(answers(tmp_path / "job", video)[0], expected, atol=1e-5)


def test_a_layer_of_keras_1_in_a_wrapper(tmp_path: Path) -> None:
    entry = {"batch_input_shape": [None, 4, 5], "input_dtype": "float32"}
    inner = layer("LSTM", "read", output_dim=3, activation="tanh", inner_activation="sigmoid")
    wrapper = layer("Bidirectional", "both", layer=inner, merge_mode="concat", **entry)
    gates = [[random(5, 3), random(3, 3), random(3)] for _ in range(8)]
    weights = {"both": [array for gate in gates for array in gate]}
    config = {"class_name": "Sequential", "config": [wrapper]}
    inspected(old_file(tmp_path / "model.h5", config, weights), tmp_path / "job")
    same = keras.Sequential([layers.Input((4, 5)), layers.Bidirectional(layers.LSTM(3))])
    order = (0, 2, 1, 3, 4, 6, 5, 7)  # the cell's gate stands before the one that forgets
    same.set_weights(
        [
            np.concatenate([gates[gate][index] for gate in order[side : side + 4]], axis=-1)
            for side in (0, 4)
            for index in range(3)
        ]
    )
    words = random(2, 4, 5)
    expected = same.predict(words, verbose=0)
    np.testing.assert_allclose(answers(tmp_path / "job", words)[0], expected, atol=1e-5)


def test_models_that_a_merge_of_keras_1_holds_are_refused_by_its_name(tmp_path: Path) -> None:
    merge = layer("Merge", "both", mode="sum", layers=[layer("Dense", "one", output_dim=2)])
    config = {"class_name": "Sequential", "config": [merge]}
    with rejected("'both' \\(Merge\\) of Keras 1 holds models"):
        inspected(old_file(tmp_path / "model.h5", config, {}), tmp_path / "job")
