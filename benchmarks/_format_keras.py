"""The networks for scikit-learn's digits in the layers of Keras."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"

from benchmarks._digits_networks import digits, feeds


def written(network: str, path: Path) -> Path:
    """Train a network for some epochs, write it, and return the path."""
    import keras

    keras.utils.set_random_seed(0)
    model = NETWORKS[network]()
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    arrays = {name: array.transpose(0, 2, 3, 1) for name, array in feeds(network).items()}
    model.fit(arrays, digits()[1], epochs=4, verbose=0)
    model.save(path)
    return path


def cnn() -> Any:
    """Return a network of ordinary convolutions with normalisation."""
    import keras
    from keras import layers

    return keras.Sequential(
        [
            layers.Input((8, 8, 1), name="image"),
            layers.Conv2D(32, 3, padding="same", use_bias=False), layers.BatchNormalization(),
            layers.ReLU(), layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.GlobalAveragePooling2D(), layers.Dense(10),
        ]
    )  # fmt: skip


def depthwise() -> Any:
    """Return a network of depthwise convolutions, as MobileNet has them."""
    import keras
    from keras import layers

    return keras.Sequential(
        [
            layers.Input((8, 8, 1), name="image"),
            layers.Conv2D(32, 3, padding="same", activation="relu6"),
            layers.DepthwiseConv2D(3, padding="same"), layers.BatchNormalization(),
            layers.ReLU(6.0), layers.Conv2D(64, 1), layers.BatchNormalization(), layers.ReLU(6.0),
            layers.GlobalAveragePooling2D(), layers.Dense(10),
        ]
    )  # fmt: skip


def vit() -> Any:
    """Return a network of sixteen patches, and one layer of attention."""
    import keras
    from keras import layers

    image = layers.Input((8, 8, 1), name="image")
    x = layers.Reshape((16, 32))(layers.Conv2D(32, 2, 2)(image))
    near = layers.LayerNormalization()(x)
    x = layers.Add()([x, layers.MultiHeadAttention(4, 8)(near, near)])
    wide = layers.Dense(128, activation="gelu")(layers.LayerNormalization()(x))
    x = layers.Add()([x, layers.Dense(32)(wide)])
    return keras.Model(image, layers.Dense(10)(layers.GlobalAveragePooling1D()(x)))


def gru() -> Any:
    """Return a GRU that reads an image line by line."""
    import keras
    from keras import layers

    lines = [layers.Input((8, 8, 1), name="image"), layers.Reshape((8, 8)), layers.GRU(32)]
    return keras.Sequential([*lines, layers.Dense(10)])


def two_inputs() -> Any:
    """Return a network that reads the upper and the lower half of an image."""
    import keras
    from keras import layers

    halves = [layers.Input((4, 8, 1), name=name) for name in ("upper", "lower")]
    read = [layers.Conv2D(16, 3, padding="same")(half) for half in halves]
    both = layers.ReLU()(layers.Concatenate()(read))
    body = layers.Conv2D(32, 3, padding="same", activation="relu")(both)
    return keras.Model(halves, layers.Dense(10)(layers.GlobalAveragePooling2D()(body)))


NETWORKS: dict[str, Callable[[], Any]] = {
    "cnn": cnn, "depthwise": depthwise, "vit": vit, "gru": gru, "two inputs": two_inputs,
}  # fmt: skip
