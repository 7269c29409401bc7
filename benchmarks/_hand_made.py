"""Networks that are searched, and for each pipelines of somebody who knows the methods."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import _digits_networks, _ocr, _task

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


def _digits(network: str) -> Subject:
    return Subject(partial(_of_digits, network), _digits_dataset, 0.01, {})


def _of_digits(network: str) -> Path:
    """Return a network for scikit-learn's digits: searches of it take minutes."""
    return _task.kept(
        f"digits-{network}.onnx",
        lambda path: _export(network, path),
        network=_digits_networks.NETWORKS[network](),
    )


def _export(network: str, path: Path) -> None:
    torch.onnx.export(
        _digits_networks.trained(network), _digits_networks.example(network), path,
        input_names=["image"], dynamic_shapes=({0: torch.export.Dim("batch")},), dynamo=True,
        external_data=False, verbose=False,
    )  # fmt: skip


def _digits_dataset() -> Path:
    def make(path: Path) -> None:
        images, classes = _digits_networks.digits()
        np.savez(path, image=images, targets=classes)

    return _task.kept("digits.npz", make)


SUBJECTS: Mapping[str, Subject] = {
    "digits_cnn": _digits("cnn"),
    "digits_vit": _digits("vit"),
    "resnet8": _clothes("resnet8"),
    "resnet20": _clothes("resnet20"),
    "mobilenet_v2": _clothes("mobilenet_v2"),
    "vit": _clothes("vit"),
    "pp_ocrv6": Subject(_ocr.model, _ocr.dataset, 0.01, _UNLABELLED),
}
"""Those of digits and ``resnet8`` are small, to see that all works; the others are the bars'."""
