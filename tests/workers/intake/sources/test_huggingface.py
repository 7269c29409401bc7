"""Directories of transformers become graphs; no code and no pickle of theirs is opened."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, LlamaConfig, LlamaForCausalLM

from app.domain.models import ModelHints
from tests.workers.intake.sources.reading import EXACT, answers, inspected, rejected
from workers.compression.intake.sources import huggingface

pytestmark = pytest.mark.filterwarnings("ignore")  # of transformers' own deprecations

SMALL: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}


def packed(model: Any, path: Path, change: Callable[[Path], None] = lambda _: None) -> Path:
    """Write a model's directory as a zip, changed before it is packed."""
    directory = path / "network"
    model.save_pretrained(directory)
    (directory / "tokenizer.json").write_text("{}")
    change(directory)
    with zipfile.ZipFile(path / "network.zip", "w") as archive:
        for file in directory.iterdir():
            archive.write(file, f"network/{file.name}")
    return path / "network.zip"


def bert() -> Any:
    torch.manual_seed(0)
    return BertForSequenceClassification(BertConfig(**SMALL)).eval()


def test_an_encoder_answers_as_in_transformers_at_every_length(tmp_path: Path) -> None:
    model = bert()
    found, conversion = inspected(packed(model, tmp_path), tmp_path / "job")
    assert (found.format, conversion.source) == ("huggingface", "transformers")
    assert conversion.max_error < EXACT
    assert [(each.name, each.shape) for each in found.inputs] == [
        (name, ["batch", "length"]) for name in ("input_ids", "attention_mask", "token_type_ids")
    ]
    assert [each.name for each in found.outputs] == ["logits"]
    tokens = np.arange(3 * 11).reshape(3, 11)
    mask = (np.arange(11) < np.array([[11], [6], [2]])).astype(np.int64)
    (ours,) = answers(tmp_path / "job", tokens, mask, np.zeros_like(tokens))
    given = {"input_ids": torch.from_numpy(tokens), "attention_mask": torch.from_numpy(mask)}
    theirs = model(**given).logits.detach().numpy()
    np.testing.assert_allclose(ours, theirs, atol=EXACT)


def test_a_decoder_is_read_without_its_cache(tmp_path: Path) -> None:
    torch.manual_seed(0)
    file = packed(LlamaForCausalLM(LlamaConfig(**SMALL)), tmp_path)
    found, conversion = inspected(file, tmp_path / "job")
    assert conversion.max_error < EXACT
    assert [each.name for each in found.inputs] == ["input_ids", "attention_mask"]
    assert found.outputs[0].shape[-1] == 60


def configured(**changes: Any) -> Callable[[Path], None]:
    def change(directory: Path) -> None:
        file = directory / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return change


def pickled(directory: Path) -> None:
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")


def cut_off(directory: Path) -> None:
    file = directory / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def renamed(directory: Path) -> None:
    (directory / "model.safetensors").rename(directory / "mine.safetensors")


def indexed(file: object) -> Callable[[Path], None]:
    """Have an index say that a weight is in another file."""

    def change(directory: Path) -> None:
        renamed(directory)
        index = {"metadata": {}, "weight_map": {"classifier.bias": file}}
        (directory / "model.safetensors.index.json").write_text(json.dumps(index))

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (configured(auto_map={"AutoModel": "modeling_mine.Mine"}), "code of its own"),
        (configured(quantization_config={"quant_method": "gptq"}), "quantized already"),
        (configured(architectures=["os"]), "has no network 'os'"),
        (configured(architectures=["BertConfig"]), "has no network 'BertConfig'"),
        (configured(hidden_size=24), r"'bert\..*\[16\] in the file, \[24\] by config\.json"),
        (configured(hidden_size="wide"), r'does not take \("hidden_size": "wide"\)'),
        (configured(hidden_act="mine"), r'cannot be built.*\("hidden_act": "mine"\)'),
        (configured(num_attention_heads=3), "cannot be built as config.json says.*heads"),
        (configured(num_hidden_layers=2), "weights of BertForSequenceClassification are not"),
        (pickled, "safetensors"),
        (cut_off, r"'model\.safetensors' is broken or was cut off"),
        (renamed, r"weights in 'mine\.safetensors'.*save_pretrained"),
        (indexed("gone.safetensors"), r"'gone\.safetensors'.* is not in the zip"),
        (indexed("../network/mine.safetensors"), "is not in the zip"),
        (indexed(7), "is not in the zip"),
    ],
)
def test_what_is_not_a_stock_network_is_refused(
    tmp_path: Path, change: Callable[[Path], None], words: str
) -> None:
    with rejected(words):
        inspected(packed(bert(), tmp_path, change), tmp_path / "job")


def decoder(tmp_path: Path) -> tuple[Any, Path]:
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SMALL, num_key_value_heads=1)).eval()
    return model, packed(model, tmp_path)


def timm_directory(directory: Path) -> None:
    import timm
    from safetensors.torch import save_file

    network = timm.create_model("test_resnet", num_classes=4)
    save_file(network.state_dict(), directory / "model.safetensors")
    (directory / "config.json").write_text('{"architecture": "test_resnet", "num_classes": 4}')


def zipped(path: Path) -> Path:
    """Write a zip of the files below a directory."""
    with zipfile.ZipFile(path.with_suffix(".zip"), "w") as archive:
        for file in sorted(path.rglob("*.*")):
            archive.write(file, file.relative_to(path))
    return path.with_suffix(".zip")


def test_a_directory_of_timm_names_its_network_itself(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    timm_directory(tmp_path / "d")
    (tmp_path / "d" / "model_old.safetensors").write_bytes(b"")
    program = huggingface.read(zipped(tmp_path / "d"), ModelHints())
    assert (program.source, program.inputs[0].shape) == ("timm", ["batch", 3, 160, 160])


def test_the_network_may_lie_beside_directories_without_weights(tmp_path: Path) -> None:
    """As sentence encoders were saved: the pooling has a configuration too."""
    for name in ("0_Transformer", "1_Pooling"):
        (tmp_path / "d" / name).mkdir(parents=True)
    bert().save_pretrained(tmp_path / "d" / "0_Transformer")
    (tmp_path / "d" / "1_Pooling" / "config.json").write_text("{}")
    program = huggingface.read(zipped(tmp_path / "d"), ModelHints())
    assert program.source == "transformers"


def test_several_networks_in_one_archive_are_refused_by_their_names(tmp_path: Path) -> None:
    for name in ("unet", "vae"):
        (tmp_path / "d" / name).mkdir(parents=True)
        timm_directory(tmp_path / "d" / name)
    with rejected(r"2 networks \('unet', 'vae'\): upload each"):
        huggingface.read(zipped(tmp_path / "d"), ModelHints())


def test_an_adapter_is_told_to_be_merged(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "adapter_config.json").write_text("{}")
    (tmp_path / "d" / "adapter_model.safetensors").write_bytes(b"")
    with rejected("merge_and_unload"):
        inspected(zipped(tmp_path / "d"), tmp_path / "job")


def test_a_decoder_reads_on_from_its_cache(tmp_path: Path) -> None:
    model, file = decoder(tmp_path)
    found, conversion = inspected(file, tmp_path / "job", cache=True)
    assert conversion.max_error < EXACT
    assert {each.name: each.shape for each in found.inputs} == {
        "input_ids": ["batch", "length"],
        "attention_mask": ["batch", "past_length + length"],
        "position_ids": ["batch", "length"],
        "past_key_values.0.key": ["batch", 1, "past_length", 8],
        "past_key_values.0.value": ["batch", 1, "past_length", 8],
    }
    assert {each.name: each.shape for each in found.outputs} == {
        "logits": ["batch", "length", 60],
        "present.0.key": ["batch", 1, "past_length + length", 8],
        "present.0.value": ["batch", 1, "past_length + length", 8],
    }
    ids = np.arange(2 * 9).reshape(2, 9)
    cache = [np.zeros((2, 1, 0, 8), np.float32)] * 2
    logits = []
    for start, end in ((0, 5), (5, 6), (6, 9)):
        mask, places = np.ones((2, end), np.int64), np.arange(start, end)[None].repeat(2, 0)
        ours, *cache = answers(tmp_path / "job", ids[:, start:end], mask, places, *cache)
        logits.append(ours)
    whole = model(torch.from_numpy(ids)).logits.detach().numpy()
    np.testing.assert_allclose(np.concatenate(logits, 1), whole, atol=EXACT)


def test_a_network_without_a_cache_is_refused_one(tmp_path: Path) -> None:
    with rejected("no decoder with a cache.*without '.cache=true'"):
        inspected(packed(bert(), tmp_path), tmp_path / "job", cache=True)
    _, file = decoder(tmp_path)
    with rejected("leave out 'inputs'"):
        inspected(file, tmp_path / "job2", cache=True, inputs=[{"shape": ["batch", 4]}])
