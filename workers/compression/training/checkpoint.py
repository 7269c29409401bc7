"""A training's state on disk: whole or not there at all, and no pickle in it."""

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


def save(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors and facts in place of what was there.

    Args:
        path: the file, ending in ``.npz``.
        tensors: by name, on any device.
        facts: whatever JSON can say.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    arrays = {f"tensor/{name}": tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
    words = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    with part.open("wb") as file:
        np.savez(file, allow_pickle=False, **{_FACTS: words}, **arrays)
    part.replace(path)


def load(path: Path) -> tuple[Tensors, dict[str, Any]] | None:
    """Return what ``save`` wrote, None where there is nothing sound."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            facts = json.loads(arrays[_FACTS].tobytes())
            tensors = {
                name.removeprefix("tensor/"): torch.from_numpy(arrays[name].copy())
                for name in arrays.files
                if name != _FACTS
            }
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None
    return tensors, facts
