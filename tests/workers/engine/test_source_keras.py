"""Format ``source`` for Keras: a whole file, also of a narrower result."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.workers.engine.archives import (
    CHANNELS,
    NEAR,
    ZEROS,
    delivered,
    graph_answers,
    source,
)
from tests.workers.engine.conftest import Run, report_of

os.environ["KERAS_BACKEND"] = "torch"

pytestmark = pytest.mark.filterwarnings("ignore")  # of the frameworks' own deprecations


def keras_network() -> Any:
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            layers.Input((8, 8, 1), name="image"),
            layers.Rescaling(1 / 2),
            layers.Conv2D(16, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.DepthwiseConv2D(3, padding="same"),
            layers.Conv2D(24, 1, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10),
        ]
    )
    random = np.random.default_rng(0)
    for variable in model.weights:
        low = 0.5 if "variance" in variable.path or "gamma" in variable.path else -0.5
        variable.assign(random.uniform(low, low + 1, variable.shape))
    return model


def keras_answers(file: bytes, path: Path, images: np.ndarray[Any, Any]) -> Any:
    import keras

    path.write_bytes(file)
    return keras.models.load_model(path)(images).detach().numpy()


@pytest.mark.parametrize(
    ("ending", "step"), [("h5", ZEROS), ("keras", CHANNELS)], ids=["zeros", "narrower"]
)
def test_keras_gets_a_whole_file(
    job: Run, tmp_path: Path, ending: str, step: dict[str, Any]
) -> None:
    """As long as its layers say how wide they are, also one that is narrower."""
    model = keras_network()
    model.save(tmp_path / f"model.{ending}")
    result = job(tmp_path / f"model.{ending}", step, deliver=["onnx", "source"], source=source())
    report_of(result)
    artifact = result.artifacts[1]
    assert artifact.ran, artifact.reason
    assert artifact.max_error is not None
    assert artifact.max_error < NEAR
    assert str(artifact.runtime).startswith("keras 3")
    files = delivered(tmp_path, artifact)
    assert f"model.{ending}" in files
    assert ("kept.json" in files) == (step == CHANNELS)
    images = np.random.default_rng(1).random((3, 8, 8, 1), np.float32)
    answers = keras_answers(files[f"model.{ending}"], tmp_path / f"back.{ending}", images)
    np.testing.assert_allclose(graph_answers(tmp_path, {"image": images}), answers, atol=NEAR)
