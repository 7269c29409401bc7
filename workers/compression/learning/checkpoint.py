"""The checkpoint of a training: a file that is complete or absent, and holds no pickle."""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

_FACTS = "facts"

Tensors = dict[str, Tensor]


def save(path: Path, parts: Mapping[str, Mapping[str, Tensor]], facts: Mapping[str, Any]) -> None:
    """Write tensors and facts; an older checkpoint at the path is replaced.

    Args:
        path: the file, ending in ``.npz``.
        parts: tensors on any device, by part and name.
        facts: values that JSON can hold.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {
        f"{part}/{name}": tensor.detach().cpu().numpy()
        for part, tensors in parts.items()
        for name, tensor in tensors.items()
    }
    words = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    unfinished = path.with_name(path.name + ".part")
    with unfinished.open("wb") as file:
        np.savez(file, allow_pickle=False, **{_FACTS: words}, **arrays)
    unfinished.replace(path)


def load(path: Path) -> tuple[Tensors, dict[str, Any]] | None:
    """Return tensors, as ``<part>/<name>``, and facts; None if no checkpoint can be read."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            facts = json.loads(arrays[_FACTS].tobytes())
            tensors = {
                name: torch.from_numpy(arrays[name]).clone()
                for name in arrays.files
                if name != _FACTS
            }
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        return None
    return tensors, facts


def part(tensors: Mapping[str, Tensor], name: str) -> Tensors:
    """Return the tensors of one part, by their names without the prefix."""
    start = f"{name}/"
    return {
        key.removeprefix(start): tensor for key, tensor in tensors.items() if key.startswith(start)
    }
