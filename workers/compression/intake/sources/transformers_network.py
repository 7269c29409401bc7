"""Opens the network of a directory of transformers; what is wrong is said by file and setting."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from app.domain.problems import InvalidModel
from workers.compression import faults

EXPORT = "Export it with optimum-cli export onnx where it is, and upload the .onnx file."
CLASSES = "architectures"
"""The key of the configuration that names the class of the network."""
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_AGAIN = "Write the directory again where the network works: model.save_pretrained(new_directory)."
_SETTING = re.compile(r"for field '(\w+)'")
"""How transformers names a setting whose value has the wrong type."""


def opened(transformers: Any, directory: Path, config: dict[str, Any]) -> tuple[Any, list[str]]:
    """Return the network in float32, with every weight from the file, and warnings.

    Raises:
        InvalidModel: the network is not one of transformers', its settings are impossible, or the
            weights are not there, broken, or others than its own.
    """
    name, kind = _class_of(transformers, config)
    for file in _files(directory):
        _require_whole(file)
    settings = _settings(name, kind, directory, config)
    try:
        model, loading = kind.from_pretrained(
            directory,
            config=settings,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            attn_implementation="eager",
            dtype=torch.float32,
            ignore_mismatched_sizes=True,  # they are told below
            output_loading_info=True,
        )
    except Exception as error:
        if faults.is_limit(error):
            raise
        faults.log(error)
        raise InvalidModel(
            f"{name} cannot be built as config.json says{_culprits(error, config)}: a value is"
            f" impossible, or two do not go together (a width has to be a multiple of the number of"
            f" heads). {_AGAIN}"
        ) from error
    _require_weights(name, loading)
    stored = str(config.get("dtype", config.get("torch_dtype", "float32")))
    return model.eval(), [] if stored == "float32" else [f"Weights in {stored} became float32."]


def _class_of(transformers: Any, config: dict[str, Any]) -> tuple[str, Any]:
    named = config.get(CLASSES)
    name = named[0] if isinstance(named, list) and named and isinstance(named[0], str) else ""
    kind: Any = getattr(transformers, name, None) if name.isidentifier() else None
    if not isinstance(kind, type) or not issubclass(kind, transformers.PreTrainedModel):
        raise InvalidModel(
            f"transformers {transformers.__version__} has no network '{name[:80]}'"
            f" ('{CLASSES}' in config.json). {EXPORT}"
        )
    return name, kind


def _files(directory: Path) -> Iterator[Path]:
    """Yield the files of weights that transformers will read.

    Raises:
        InvalidModel: one of them is not there.
    """
    if (directory / _WEIGHTS).exists():
        yield directory / _WEIGHTS
        return
    index = directory / _INDEX
    if not index.exists():
        found = min(path.name for path in directory.glob("*.safetensors"))
        raise InvalidModel(
            f"The directory has weights in '{found[:80]}', and neither '{_WEIGHTS}' nor '{_INDEX}',"
            f" which say which weights are meant. {_AGAIN}"
        )
    try:
        names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        raise InvalidModel(f"{_INDEX} is not a readable list of weights. {_AGAIN}") from error
    for name in names:
        path = directory / Path(str(name)).name
        if path.name != name or not path.exists():
            raise InvalidModel(
                f"'{name!s:.80}', which {_INDEX} names, is not in the zip: pack all files of the"
                " directory."
            )
        yield path


def _require_whole(path: Path) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt"):
            return
    except (SafetensorError, OSError) as error:
        faults.log(error)
        raise InvalidModel(
            f"'{path.name[:80]}' is broken or was cut off: copy it again from where it was written,"
            " and pack the directory anew."
        ) from error


def _settings(name: str, kind: Any, directory: Path, config: dict[str, Any]) -> Any:
    """Return what config.json says, as transformers reads it."""
    try:
        return kind.config_class.from_pretrained(directory, local_files_only=True)
    except Exception as error:
        if faults.is_limit(error):
            raise
        faults.log(error)
        raise InvalidModel(
            f"config.json has settings that {name} does not take{_culprits(error, config)}."
            f" {_AGAIN}"
        ) from error


def _culprits(error: Exception, config: dict[str, Any]) -> str:
    """Return the settings that an error is about, in brackets; nothing where it does not tell."""
    named = [match[1] for cause in faults.causes(error) if (match := _SETTING.search(str(cause)))]
    values = {value for value in error.args if isinstance(value, str)}
    named += [key for key, value in config.items() if isinstance(value, str) and value in values]
    known = dict.fromkeys(key for key in named if key in config)
    said = ", ".join(f'"{key[:80]}": {json.dumps(config[key])[:80]}' for key in known)
    return f" ({said})" if said else ""


def _require_weights(name: str, loading: dict[str, Any]) -> None:
    """Require that each weight of the network was in the file, in the network's shape."""
    mismatched = sorted(loading.get("mismatched_keys", ()))
    if mismatched:
        weight, stored, wanted = mismatched[0]
        raise InvalidModel(
            f"{len(mismatched)} weights of {name} have other shapes than config.json says, such as"
            f" '{weight[:80]}': {list(stored)} in the file, {list(wanted)} by config.json. The two"
            f" files are of different networks. {_AGAIN}"
        )
    missing = sorted(loading.get("missing_keys", ()))
    if missing:
        raise InvalidModel(
            f"{len(missing)} weights of {name} are not in the file, such as '{missing[0][:80]}':"
            " save the model again with save_pretrained after training it."
        )
