"""A Keras file that cannot be opened: the layer, what is wrong and the way out, in our words."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import pytest
from keras import layers

from app.domain.models import ModelHints
from app.domain.problems import InvalidModel
from workers.compression.intake.sources.keras import read_archive, read_hdf5

pytestmark = pytest.mark.filterwarnings("ignore")  # of Keras's own deprecations

Change = Callable[[dict[str, Any], h5py.File], None]
"""Changes the layers of a file, by their names, and its weights."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a network as both kinds of file."""
    directory = tmp_path_factory.mktemp("whole")
    image = layers.Input((8, 8, 3), name="image")
    x = layers.BatchNormalization(name="scaled")(layers.Conv2D(4, 3, name="seen")(image))
    model = keras.Model(image, layers.Dense(2, name="y")(layers.Flatten(name="flat")(x)))
    for name in ("model.keras", "model.h5"):
        model.save(directory / name)
    return directory


def changed_archive(whole: Path, change: Change, to: Path) -> Path:
    with zipfile.ZipFile(whole / "model.keras") as source:
        config = json.loads(source.read("config.json"))
        source.extract("model.weights.h5", to.parent)
    with h5py.File(to.parent / "model.weights.h5", "r+") as file:
        change(by_name(config), file)
    with zipfile.ZipFile(to, "w") as target:
        target.writestr("config.json", json.dumps(config))
        target.write(to.parent / "model.weights.h5", "model.weights.h5")
    return to


def changed_hdf5(whole: Path, change: Change, to: Path) -> Path:
    to.write_bytes((whole / "model.h5").read_bytes())
    with h5py.File(to, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        change(by_name(config), file)
        file.attrs["model_config"] = json.dumps(config)
    return to


def by_name(config: dict[str, Any]) -> dict[str, Any]:
    return {layer["config"]["name"]: layer for layer in config["config"]["layers"]}


def argued(**arguments: Any) -> Change:
    return lambda found, _: found["seen"]["config"].update(arguments)


def unread(found: dict[str, Any], _: h5py.File) -> None:
    """Have a layer read from one that is not there."""
    text = json.dumps(found["y"]).replace("flat", "nowhere")
    found["y"].update(json.loads(text))


def without(group: str) -> Change:
    return lambda _, file: file.__delitem__(group)


SHAPE = "what the layer reads is missing, or has another shape"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (argued(frobnicate=3), r"'seen' \(Conv2D\).*not all of its arguments"),
        (argued(padding="sideways"), r"'seen' \(Conv2D\).*not their values"),
        (argued(kernel_size=[30, 30]), r"'(seen|scaled|y)' \(\w+\).*"),
        (unread, rf"'y' \(Dense\).*{SHAPE}"),
    ],
)
@pytest.mark.parametrize("kind", ["keras", "h5"])
def test_a_layer_that_cannot_be_built_is_named(
    whole: Path, tmp_path: Path, kind: str, change: Change, words: str
) -> None:
    make, read = {"keras": (changed_archive, read_archive), "h5": (changed_hdf5, read_hdf5)}[kind]
    file = make(whole, change, tmp_path / "changed")
    with pytest.raises(InvalidModel, match=rf"cannot build.*{words}.*planish\.from_keras") as told:
        read(file, ModelHints())
    assert "<class" not in str(told.value)


@pytest.mark.parametrize(
    ("make", "change", "words"),
    [
        (changed_archive, without("layers/conv2d"), r"of the layer 'seen' \(Conv2D\)"),
        (changed_hdf5, argued(filters=5), r"of the layer 'seen' \(Conv2D\)"),
        (changed_hdf5, without("model_weights/seen"), "in the file are others"),
    ],
)
def test_weights_that_are_not_of_the_layers_are_told_apart(
    whole: Path, tmp_path: Path, make: Any, change: Change, words: str
) -> None:
    file = make(whole, change, tmp_path / "changed")
    read = read_archive if make is changed_archive else read_hdf5
    with pytest.raises(InvalidModel, match=rf"weights.*{words}.*Save the whole model"):
        read(file, ModelHints())


def test_the_words_of_keras_go_to_the_log(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = changed_archive(whole, argued(padding="sideways"), tmp_path / "changed")
    with pytest.raises(InvalidModel):
        read_archive(file, ModelHints())
    assert "The `padding` argument must be" in capsys.readouterr().err
