"""Core ML: an ``.mlpackage`` as a zip. It cannot be run anywhere but on Apple's systems."""

import traceback
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from app.domain.problems import DeliveryFailed
from workers.compression import faults
from workers.compression.delivery.exported import program
from workers.compression.delivery.form import Form, Made, Source
from workers.compression.delivery.grids import Grids

_NOT_HERE = "Core ML runs on Apple's systems alone: the file was converted, and not run."


def make(source: Source, directory: Path) -> Made:
    """Convert the graph to an ML program in float32, with int8 where the graph rounds.

    Raises:
        DeliveryFailed: torch cannot export it, or Core ML lacks an operator.
    """
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # warnings about its use of torch, and about runtimes that exist on Apple's systems only
        package = _convert(source)
    archive = directory / "model-coreml.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED, allowZip64=True) as packed:
        for file in sorted(path for path in package.rglob("*") if path.is_file()):
            packed.write(file, file.relative_to(source.workspace))
    return Made(archive, None, reason=_NOT_HERE)


def _convert(source: Source) -> Path:
    import coremltools as ct

    exported = program(source.graph, source.feeds, Grids()).run_decompositions({})
    _remove_aliases(exported)
    names = [ct.TensorType(name=name) for name in source.names]
    package = source.workspace / "model.mlpackage"
    try:
        converted: Any = ct.convert(
            exported,
            outputs=names,
            minimum_deployment_target=ct.target.iOS17,
            compute_precision=ct.precision.FLOAT32,
        )
    except Exception as error:  # noqa: BLE001 (it raises errors of any class)
        if node := _refused(error, exported):
            faults.note_node(error, node)
        said = faults.refusal(error)
        traceback.clear_frames(error.__traceback__)  # and with them a temporary directory
        raise DeliveryFailed(f"Core ML's converter refuses this model: {said}.") from None
    converted.save(str(package))
    return package


def _remove_aliases(exported: ExportedProgram) -> None:
    """Have what reads another name of a tensor read the tensor: Core ML knows no such operator.

    torch writes one where a cut leaves a tensor as it is.
    """
    for node in list(exported.graph.nodes):
        if node.target == torch.ops.aten.alias.default:
            exported.graph_signature.replace_all_uses(node.name, node.args[0].name)
            node.replace_all_uses_with(node.args[0])
            exported.graph.erase_node(node)


def _refused(error: Exception, exported: ExportedProgram) -> str | None:
    """Return the node of the graph that was being converted when an error was raised."""
    labels = {node.name: faults.label_of(node) for node in exported.graph.nodes}
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        operation = frame.f_locals.get("node")  # torch's or the converter's, of the same name
        if label := labels.get(getattr(operation, "name", "")):
            return label
    return None


COREML = Form("coreml", "coremltools", make)
