"""Reads ONNX: a single file, or a bundle of one ``.onnx`` file and its external data."""

import mmap
import re
from collections.abc import Sequence
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from app.domain.problems import InvalidModel
from app.domain.wording import listed
from workers.compression.graph import external
from workers.compression.graph.load import make_self_contained
from workers.compression.intake.borrowed import spell_out_borrowed
from workers.compression.intake.limits import ModelLimits
from workers.compression.intake.proto import check_model, opset
from workers.compression.intake.repair import repair, unite
from workers.compression.intake.sparse import densify
from workers.compression.intake.wire import check_wire

_UNKNOWN = re.compile(r"No Op registered for (?P<op>\w+) with domain_version of (?P<version>\d+)")

_NAMED = 5
"""Files of an archive that are named where it is refused."""


def read_file(upload: Path, target: Path, limits: ModelLimits) -> int:
    """Check one ``.onnx`` file and write it to ``target``, self-contained.

    Returns:
        The opset that it was exported with.

    Raises:
        InvalidModel: the file is refused; the message says why.
    """
    return _accept(_parse_alone(upload, limits), upload.parent, target, limits)


def _parse_alone(upload: Path, limits: ModelLimits) -> onnx.ModelProto:
    proto = _parse(upload, limits)
    outside = next((t for t in external.tensors(proto) if external.is_external(t)), None)
    if outside is not None:
        raise InvalidModel(
            f"Tensor '{outside.name[:80]}' keeps its data in another file. Upload a zip that holds"
            " the .onnx file and its data files, or save the model as one file with"
            " onnx.save(onnx.load(path), 'model.onnx')."
        )
    return proto


def read_bundle(directory: Path, target: Path, limits: ModelLimits) -> int:
    """Check an unpacked bundle and write it as one self-contained graph to ``target``.

    Returns:
        The opset that it was exported with.

    Raises:
        InvalidModel: the file is refused; the message says why.
    """
    graphs = sorted(p for p in directory.rglob("*") if p.suffix.lower() == ".onnx" and p.is_file())
    if len(graphs) != 1:
        raise InvalidModel(_no_single_graph(directory, graphs))
    return _accept(_parse(graphs[0], limits), graphs[0].parent, target, limits)


def _no_single_graph(directory: Path, graphs: Sequence[Path]) -> str:
    """Say what an archive holds in place of one graph."""
    files = graphs or sorted(path for path in directory.rglob("*") if path.is_file())
    names = listed([str(path.relative_to(directory)) for path in files], _NAMED)
    said = f"A bundle holds exactly one .onnx file beside its external data; found: {names}."
    if files and all(path.suffix == ".npy" for path in files):
        return f"{said} These are arrays (.npz): upload them as data."
    return said


def _parse(path: Path, limits: ModelLimits) -> onnx.ModelProto:
    """Parse a file whose encoding was walked within the limits."""
    size = path.stat().st_size
    if size > limits.file:
        raise InvalidModel(
            "The ONNX file is larger than 2 GiB, which no runtime reads. Save it with external"
            " data and upload both files in one zip."
        )
    if size == 0:
        raise InvalidModel("The file is empty.")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        check_wire(data, limits)
        try:
            proto = onnx.ModelProto.FromString(memoryview(data))
        except DecodeError as error:
            raise InvalidModel(f"The file is not a readable ONNX model: {error}.") from None
    unite(proto)
    check_model(proto, limits)
    return proto


def _accept(proto: onnx.ModelProto, source: Path, target: Path, limits: ModelLimits) -> int:
    """Write the self-contained model, let the checker judge it, and return its opset."""
    version = opset(proto)
    densify(proto, limits)
    repair(proto)
    spell_out_borrowed(proto, version)
    make_self_contained(proto, source, target)
    del proto  # the checker reads the file: one copy of the weights is enough
    try:
        onnx.checker.check_model(str(target))
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        raise InvalidModel(_refusal(error)) from None
    return version


def _refusal(error: Exception) -> str:
    """Say what the checker refuses; its words about an unknown operator name no way out."""
    if unknown := _UNKNOWN.search(str(error)):
        return (
            f"The model has the operator {unknown['op']}, which version {unknown['version']} of its"
            " operator set does not have. Export it with the opset that has this operator, or with"
            " other operators of the standard."
        )
    return f"The ONNX checker refuses the model: {_line(error)}"


def _line(error: Exception) -> str:
    """Return the useful part of a library's message, without paths of this machine."""
    text = " ".join(str(error).split())
    return text.split("failed:", 1)[-1].strip()[:500]
