"""Networks that are searched, and for each pipelines of somebody who knows the methods."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import _ocr, _task

Steps = Sequence[Mapping[str, Any]]

_LABELLED = {"augment": ["flip"]}
_UNLABELLED = {"loss": "teacher"}


@dataclass(frozen=True)
class Subject:
    """A network that is searched.

    Attributes:
        model: the trained network, as ONNX.
        dataset: as users upload it.
        bound: of the loss of quality.
        recover: how a step trains, besides for how long.
    """

    model: Callable[[], Path]
    dataset: Callable[[], Path]
    bound: float
    recover: Mapping[str, Any]

    def hand_made(self, epochs: int) -> dict[str, Steps]:
        """Return what somebody tries who knows the methods, and not the network.

        Args:
            epochs: of each training.
        """
        recover = {**self.recover, "epochs": epochs}
        channels = {"method": "prune", "ratio": 0.5, "recover": recover}
        few = {"method": "prune", "ratio": 0.3, "recover": recover}
        ranks = {"method": "low_rank", "ratio": 0.5, "recover": recover}
        bits = {"method": "quantize"}
        return {
            "bits": [bits],
            "half of the channels' work": [channels],
            "half of the ranks' work": [ranks],
            "channels, then bits": [channels, bits],
            "a few channels, then bits": [few, bits],
        }


def _clothes(network: str) -> Subject:
    return Subject(partial(_task.trained, network), _task.dataset, 0.01, _LABELLED)


SUBJECTS: Mapping[str, Subject] = {
    "resnet8": _clothes("resnet8"),
    "resnet20": _clothes("resnet20"),
    "mobilenet_v2": _clothes("mobilenet_v2"),
    "vit": _clothes("vit"),
    "pp_ocrv6": Subject(_ocr.model, _ocr.dataset, 0.01, _UNLABELLED),
}
"""``resnet8`` is small, to see that all works; the others are those of the bars."""
