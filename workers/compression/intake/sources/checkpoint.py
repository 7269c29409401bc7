"""Reads files of weights: safetensors, and PyTorch checkpoints, of which only weights are read."""

import io
import pickletools
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import IO, Any

import torch
from torch import Tensor

from app.domain.models import ModelHints
from app.domain.problems import InvalidModel
from workers.compression import faults
from workers.compression.intake.formats.detect import LEGACY_CHECKPOINT
from workers.compression.intake.limits import MIB
from workers.compression.intake.sources import timm_networks
from workers.compression.intake.sources.program import Program

_MAX_PICKLE = 64 * MIB
_LEGACY_PICKLES = 5
_PLAIN = ("torch", "collections", "numpy", "builtins", "__builtin__", "_codecs", "copyreg")
"""Packages whose objects stand in checkpoints that hold weights."""
_AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "params_ema", "ema")
"""Keys under which training programs store the averages of the weights."""
_INSIDE = (
    *_AVERAGED, "state_dict", "model_state_dict", "model_state", "model", "module", "net", "params",
    "weights",
)  # fmt: skip
"""Keys under which training programs store weights: averages first, which timm also takes."""
_LEVELS = 3
"""Of such keys within each other, at most."""

UPLOADABLE = (
    "Where its code is, write a file that can be uploaded:"
    " torch.jit.save(torch.jit.trace(model.eval(), example), 'model.pt'), or with the Python client"
    " planish.from_torch(model, example)."
)
_ALONE = (
    "If it is a checkpoint with settings beside the weights, save the weights alone where it was"
    " made: torch.save(model.state_dict(), 'model.pt')."
)


def read_safetensors(upload: Path, hints: ModelHints) -> Program:
    """Open a file of weights of a named architecture.

    Raises:
        InvalidModel: the file is broken, or the weights do not fit the architecture.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(upload)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        faults.log(error)
        raise InvalidModel(
            "The safetensors file is broken or was cut off: copy it again, or write it again with"
            " safetensors.torch.save_file(model.state_dict(), 'model.safetensors')."
        ) from error
    return timm_networks.program(weights, hints)


def read_checkpoint(upload: Path, hints: ModelHints) -> Program:
    """Open a ``.pt`` or ``.pth`` file that holds weights.

    Raises:
        InvalidModel: the file is broken, holds a whole module, or the weights do not fit the named
            architecture.
    """
    strange = sorted({name for name in _named(upload) if name.partition(".")[0] not in _PLAIN})
    if strange:
        named = ", ".join(name[:80] for name in strange[:3])
        raise InvalidModel(
            f"The file is a pickle of whole objects ({named}): opening it would run their code,"
            f" which is not in the file. {_ALONE} {UPLOADABLE}"
        )
    try:
        loaded = torch.load(upload, map_location="cpu", weights_only=True)  # noqa: TID251
    except Exception as error:
        if faults.is_limit(error):
            raise
        raise InvalidModel(
            f"The checkpoint cannot be read as weights alone. {_ALONE} {UPLOADABLE}"
        ) from error
    weights, warnings = _weights(loaded)
    program = timm_networks.program(weights, hints)
    return replace(program, warnings=[*warnings, *program.warnings])


def _named(upload: Path) -> Iterator[str]:
    """Yield the classes and functions that a checkpoint's pickle names; nothing is unpickled."""
    try:
        for pickle in _pickles(upload):
            texts: list[str] = []
            for code, argument, _ in pickletools.genops(pickle):
                if code.name in {"GLOBAL", "INST"}:
                    yield str(argument).replace(" ", ".")
                elif code.name == "STACK_GLOBAL":
                    yield ".".join(texts[-2:])
                elif isinstance(argument, str):
                    texts.append(argument)
    except (zipfile.BadZipFile, StopIteration, ValueError, OSError, NotImplementedError) as error:
        raise InvalidModel("The checkpoint is broken or was cut off: save it again.") from error


def _pickles(upload: Path) -> Iterator[IO[bytes]]:
    """Yield a checkpoint's pickles, each to be read to its end before the next.

    torch writes a zip with one; before 1.6 it wrote a file of five, and the tensors behind them.
    """
    with upload.open("rb") as file:
        head = file.read(len(LEGACY_CHECKPOINT))
        if head == LEGACY_CHECKPOINT:
            file.seek(0)
            pickles = io.BytesIO(file.read(_MAX_PICKLE))
            yield from [pickles] * _LEGACY_PICKLES
            return
    with zipfile.ZipFile(upload) as archive:
        entry = next(n for n in archive.namelist() if PurePosixPath(n).name == "data.pkl")
        with archive.open(entry) as packed:
            data = packed.read(_MAX_PICKLE + 1)
    if len(data) > _MAX_PICKLE:
        raise InvalidModel(f"The checkpoint's pickle is larger than {_MAX_PICKLE} bytes.")
    yield io.BytesIO(data)


def _weights(loaded: Any) -> tuple[dict[str, Tensor], list[str]]:
    """Return the weights by name, without the rest of a training checkpoint, and warnings.

    Raises:
        InvalidModel: the file holds no weights.
    """
    content, keys = loaded, list[str]()
    for level in range(_LEVELS):
        inside = next((key for key in _INSIDE if _has_weights(content, key, _LEVELS - level)), None)
        if inside is None:
            break
        content = content[inside]
        keys.append(inside)
    tensors = isinstance(content, Mapping) and {
        str(name): value for name, value in content.items() if isinstance(value, Tensor)
    }
    if not tensors:
        raise InvalidModel(
            "The checkpoint holds no weights by name. Save them with"
            " torch.save(model.state_dict(), 'model.pt')."
        )
    averaged = [
        f"The checkpoint's averaged weights ('{key}') were taken; for others, save them alone."
        for key in keys
        if key in _AVERAGED
    ]
    return tensors, averaged


def _has_weights(content: Any, key: str, levels: int) -> bool:
    """Return whether weights are under a key, or under such keys within, so many levels deep."""
    inside = content.get(key) if isinstance(content, Mapping) and levels else None
    if not isinstance(inside, Mapping):
        return False
    return any(isinstance(value, Tensor) for value in inside.values()) or any(
        _has_weights(inside, within, levels - 1) for within in _INSIDE
    )
