"""What benchmarks on real models are about."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Subject:
    """A real model, data for it, and what its work is worth."""

    model: Callable[[], Path]
    dataset: Callable[[], Path]
    judge: Callable[[Path], dict[str, float]]
    """Measures, in percent, on data that no step has seen; the first is what counts."""

    @cached_property
    def original(self) -> dict[str, float]:
        """What the model is worth before any step."""
        return self.judge(self.model())

    def lost(self, measured: Mapping[str, Any]) -> float:
        """Return the points lost of what counts."""
        counts = next(iter(self.original))
        return self.original[counts] - float(measured[counts])
