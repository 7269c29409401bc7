"""Compression without data: samples that are made from the model beside real ones and noise.

A network is exported with its normalisations in the file, and as exporters do by default: folded
away. Each way to have samples calibrates int8 and int4, trains through the rounding of int4, and
teaches a student of half the width. All are judged by the test images, which nothing has seen.
``--quick`` takes the small network.
"""

import json
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from app.domain.directory import ARTIFACTS, DATASET, GENERATED, ORDER, RESULT, UPLOAD, Result
from benchmarks import _engine, _task
from benchmarks._report import Bar, conclude
from workers.compression.__main__ import main as engine

Source = Literal["real", "noise", "generated"]
SOURCES: tuple[Source, ...] = ("real", "noise", "generated")
INT4 = {"weights": "int4", "activations": "uint4"}
STEPS: Mapping[str, dict[str, Any]] = {
    "static int8": {"method": "quantize", "mode": "static", "force": True},
    "static int4": {"method": "quantize", "mode": "static", "force": True, **INT4},
    "qat int4": {
        "method": "quantize", "mode": "qat", **INT4, "recover": {"epochs": 2, "loss": "teacher"},
    },
    "half-width student": {
        "method": "distill", "student": {"derive": {"width": 0.5}},
        "losses": [{"kind": "soft_targets"}], "recover": {"epochs": 8},
    },
}  # fmt: skip
TRAINED = ("qat int4", "half-width student")
NOISE = 512


def main() -> None:
    name = "resnet8" if "--quick" in sys.argv else "resnet20"
    folded = _task.trained(name)
    facts = {"network": name, "normalisations": "kept"}
    kept = _task.kept(f"{name}-kept.onnx", lambda path: _export(name, path), **facts)
    models = {"kept": kept, "folded": folded}
    original = _task.tested(folded)
    print(f"{name}: {original:.2f} % of the test images")
    found = dict[str, float]()
    with tempfile.TemporaryDirectory(prefix="planish-bench-") as scratch:
        for form, model in models.items():
            for source in SOURCES if form == "folded" else ("generated",):
                for label, step in STEPS.items():
                    made = Path(scratch) / f"{form} {label in TRAINED}"
                    accuracy = _accuracy(model, step, source, made)
                    found[f"{form}, {source}, {label}"] = accuracy
                    print(f"{form:7} {source:9} {label:20} {accuracy:6.2f} %", flush=True)
    bars = list[Bar]()
    for form in models:
        ours = {label: found[f"{form}, generated, {label}"] for label in STEPS}
        real = found["folded, real, half-width student"]
        bars += [
            Bar(f"{name}, normalisations {form}: student behind the one of real data", "points",
                real - ours["half-width student"], 5, "under"),
            Bar(f"{name}, normalisations {form}: qat int4 over static int4, without data",
                "points", ours["qat int4"] - ours["static int4"], 5, "at least"),
        ]  # fmt: skip
    conclude("nodata", bars, seed=_engine.SEED, network=name, original=original, accuracies=found)


def _export(name: str, path: Path) -> None:
    """Write a trained network with its normalisations."""
    torch.onnx.export(
        _task.module(name).eval(), (torch.zeros(2, 1, 32, 32),), path,
        input_names=["image"], output_names=["logits"], dynamic_axes={"image": {0: "batch"}},
        dynamo=False, training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False,
    )  # fmt: skip


def _accuracy(model: Path, step: Mapping[str, Any], source: Source, made: Path) -> float:
    """Return how many of the test images the result of a step names rightly, in percent.

    Args:
        model: as uploaded.
        step: what is done.
        source: of the samples.
        made: where samples that were made lie, or are put: jobs alike need not make them again.
    """
    order: dict[str, Any] = _engine.order_of([step])
    with tempfile.TemporaryDirectory(prefix="planish-bench-") as name:
        directory = Path(name)
        shutil.copyfile(model, directory / UPLOAD)
        if source == "generated":
            order["data"] = "generated"
            if made.exists():
                shutil.copytree(made, directory / GENERATED)
        else:
            _write_data(directory / DATASET, source)
        (directory / ORDER).write_text(json.dumps(order))
        engine(directory)
        result = Result.model_validate_json((directory / RESULT).read_bytes())
        if not result.artifacts:
            sys.exit(f"{step}: {result.problem}")
        if source == "generated" and not made.exists():
            shutil.copytree(directory / GENERATED, made)
        return _task.tested(directory / ARTIFACTS / result.artifacts[0].path)


def _write_data(path: Path, source: Source) -> None:
    """Write images without classes, or noise, as a user would upload them."""
    if source == "noise":
        shape = (NOISE, 1, 32, 32)
        images = np.random.default_rng(_engine.SEED).standard_normal(shape, np.float32)
    else:
        with np.load(_task.dataset()) as arrays:
            images = arrays["image"]
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, image=images)


if __name__ == "__main__":
    main()
