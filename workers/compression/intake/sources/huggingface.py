"""Reads directories of Hugging Face transformers in a zip: safetensors, no custom code."""

import inspect
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from app.domain.models import ModelHints
from app.domain.problems import InvalidModel
from workers.compression.intake.archive import unpack
from workers.compression.intake.limits import ArchiveLimits
from workers.compression.intake.sources import checkpoint, decoder_cache
from workers.compression.intake.sources.hints import FileInput, Shape, settle
from workers.compression.intake.sources.program import BATCH, Program
from workers.compression.intake.sources.timm_networks import define_torchvision_operators
from workers.compression.intake.sources.transformers_network import CLASSES, EXPORT, opened

_TOKENS = ("input_ids", "attention_mask", "token_type_ids")
_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


def read(upload: Path, hints: ModelHints) -> Program:
    """Open a directory that ``save_pretrained`` wrote.

    Raises:
        InvalidModel: the model needs custom code, has no safetensors, or is of a kind that one
            graph cannot hold.
    """
    with tempfile.TemporaryDirectory(dir=upload.parent, prefix="directory-") as scratch:
        unpack(upload, Path(scratch), ArchiveLimits())
        directory = _directory(Path(scratch))
        config = _config(directory)
        if isinstance(network := config.get("architecture"), str) and not config.get(CLASSES):
            named = hints.model_copy(update={"architecture": f"timm/{network}"})
            return checkpoint.read_safetensors(min(directory.glob("*.safetensors")), named)
        os.environ.update(_OFFLINE)
        define_torchvision_operators()
        import transformers

        model, warnings = opened(transformers, directory, config)
        if any(Path(scratch).rglob("modules.json")):
            warnings.append(
                "The directory is a sentence encoder's: the graph ends with the network's own"
                " outputs, and pooling is left to the program that reads them."
            )
    if hints.cache:
        return _with_cache(model, hints, transformers.__version__, warnings)
    file_inputs, bounds = _file_inputs(model)
    inputs = settle(file_inputs, hints.inputs)
    bounded = {
        spec.name: bounds.get(file_input.name, 0)
        for spec, file_input in zip(inputs, file_inputs, strict=True)
    }
    return Program(
        module=_Named(model, [file_input.name for file_input in file_inputs]),
        weights=model.state_dict(),
        inputs=inputs,
        source="transformers",
        version=transformers.__version__,
        warnings=warnings,
        below=bounded,
    )


def _with_cache(model: Any, hints: ModelHints, version: str, warnings: list[str]) -> Program:
    """Return a decoder whose inputs and outputs are also its cache."""
    if hints.inputs is not None:
        raise InvalidModel(
            "Names and shapes of a decoder's inputs follow from its cache: leave out 'inputs'."
        )
    inputs, bounds = decoder_cache.inputs_of(model)
    module = decoder_cache.WithCache(model, [spec.name for spec in inputs])
    decoder_cache.require_same_answers(module, inputs, bounds["input_ids"])
    return Program(
        module=module,
        weights=model.state_dict(),
        inputs=inputs,
        source="transformers",
        version=version,
        warnings=warnings,
        below=bounds,
        may_be_empty=(decoder_cache.PAST,),
    )


def _directory(root: Path) -> Path:
    """Return the directory of the network: the highest one with a configuration and weights.

    Raises:
        InvalidModel: there is none, or there are several.
    """
    if any(root.rglob("adapter_config.json")) and not any(root.rglob("config.json")):
        raise InvalidModel(
            "The directory holds an adapter (LoRA) without its network. Merge them where both are:"
            " model.merge_and_unload().save_pretrained(new_directory), and upload that."
        )
    configs = sorted(root.rglob("config.json"), key=lambda path: (len(path.parts), path))
    networks = [path.parent for path in configs if any(path.parent.glob("*.safetensors"))]
    highest = [path for path in networks if len(path.parts) == len(networks[0].parts)]
    if len(highest) > 1:
        names = ", ".join(f"'{path.name[:80]}'" for path in highest[:8])
        raise InvalidModel(
            f"The archive holds {len(highest)} networks ({names}): upload each in a zip of its own."
        )
    if not highest:
        raise InvalidModel(
            "The directory has no weights in safetensors; pickles are not opened. Write them where"
            " the model is: AutoModel.from_pretrained(directory).save_pretrained(new_directory)."
        )
    return highest[0]


def _config(directory: Path) -> dict[str, Any]:
    try:
        config = json.loads((directory / "config.json").read_bytes())
    except (ValueError, RecursionError) as error:
        raise InvalidModel("config.json is not readable JSON.") from error
    if not isinstance(config, dict):
        raise InvalidModel("config.json describes no model.")
    if "auto_map" in config:
        raise InvalidModel(
            "The model needs code of its own ('auto_map' in config.json), which is not run here."
            f" {EXPORT}"
        )
    if "quantization_config" in config:
        raise InvalidModel(
            "The weights are quantized already ('quantization_config'). Upload the original ones:"
            " they can be quantized here."
        )
    return config


def _file_inputs(model: Any) -> tuple[list[FileInput], dict[str, int]]:
    """Return the inputs of the network, and an exclusive upper bound of their integers."""
    config, main = model.config, model.main_input_name
    if getattr(config, "is_encoder_decoder", False):
        raise InvalidModel(f"An encoder with a decoder is two graphs, not one. {EXPORT}")
    parameters = inspect.signature(model.forward).parameters
    if main == "input_ids" and "pixel_values" in parameters:
        raise InvalidModel(
            f"{type(model).__name__} reads texts and images. Save the network of one of them, such"
            " as model.vision_model.save_pretrained(new_directory), and upload that."
        )
    if main == "input_ids":
        kinds = int(getattr(config, "type_vocab_size", 0) or 0)
        bounds = {"input_ids": int(config.vocab_size), "attention_mask": 2, "token_type_ids": kinds}
        names = [n for n in _TOKENS if n in parameters and (n != "token_type_ids" or kinds > 1)]
        return [FileInput(n, "int64", usual=[BATCH, "length"]) for n in names], bounds
    if main == "pixel_values":
        return [FileInput(main, "float32", usual=_image(config))], {}
    if main == "input_values":
        return [FileInput(main, "float32", usual=_spectrogram(config) or [BATCH, "samples"])], {}
    return [FileInput(main)], {}


def _spectrogram(config: Any) -> Shape | None:
    """Return the shape of spectrograms of a fixed length; None where sounds are read instead."""
    sizes = [getattr(config, name, None) for name in ("max_length", "num_mel_bins")]
    numbers = [size for size in sizes if isinstance(size, int)]
    return [BATCH, *numbers] if len(numbers) == len(sizes) else None


def _image(config: Any) -> Shape | None:
    size = getattr(config, "image_size", None)
    height, width = size if isinstance(size, list | tuple) and len(size) == 2 else (size, size)
    if not isinstance(height, int) or not isinstance(width, int):
        return None
    return [BATCH, int(getattr(config, "num_channels", 3)), height, width]


class _Named(nn.Module):
    """A network with tensors by position as inputs, and tensors by name as outputs."""

    def __init__(self, model: Any, names: list[str]) -> None:
        super().__init__()
        self.model, self.names = model, names
        parameters = inspect.signature(model.forward).parameters
        self.options = {"use_cache": False} if "use_cache" in parameters else {}

    def forward(self, *tensors: Tensor) -> dict[str, Tensor]:
        keywords = dict(zip(self.names, tensors, strict=True))
        answers: Mapping[str, Any] = self.model(**keywords, return_dict=True, **self.options)
        return {name: answer for name, answer in answers.items() if isinstance(answer, Tensor)}
