"""Format ``source``: a zip with what the team goes on training from in its own framework."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from app.domain.problems import DeliveryFailed
from workers.compression import faults
from workers.compression.delivery.form import Form, Made, Source, pack
from workers.compression.delivery.home import readme
from workers.compression.delivery.home.weights import Home, bring_home
from workers.compression.graph.load import load
from workers.compression.intake.reading import open_program
from workers.compression.intake.sources.program import Program
from workers.compression.samples.context import Feeds
from workers.compression.targets.runner import Runner

_ROUNDED = (
    "The result rounds activations to integers, which these weights cannot say: in the framework"
    " they are rounded weights in floating point."
)
_NARROWER = (
    "Its layers are narrower than those that the upload's own code builds. Load it with"
    " planish.narrow(model, 'model-source.zip') where that code is."
)


def make(source: Source, directory: Path) -> Made:
    """Write the weights of the result as the upload has them.

    Raises:
        DeliveryFailed: the upload is a graph, or a constant has no weight to go back to.
        InvalidModel, NotAvailable: the upload cannot be opened again.
    """
    upload = source.upload
    if upload is None:
        raise DeliveryFailed("the model was uploaded as ONNX: it has no other source.")
    program = open_program(upload.file, upload.order)
    weights = {name: _array(tensor) for name, tensor in program.weights.items()}
    result = load(source.graph)
    home = bring_home(weights, load(upload.graph), result, upload.kept)
    program, runs = _filled(program, home)
    files = _written(program if runs else None, home, source.workspace)
    rounds = any(node.op_type == "QuantizeLinear" for node in result.graph.all_nodes())
    whole = next((file.name for file in files if file.suffix in {".keras", ".h5"}), None)
    text = readme.text(program, home, whole, [_ROUNDED] if rounds else [])
    about = source.workspace / readme.README
    about.write_text(text, encoding="utf-8")
    archive = pack([about, *files], directory / "model-source.zip")
    if not runs:
        return Made(archive, None, reason=_NARROWER)
    return Made(archive, partial(_open, program, source))


def _filled(program: Program, home: Home) -> tuple[Program, bool]:
    """Return the network with the new weights, and whether it has them."""
    if not home.kept:
        with torch.no_grad():
            for name, tensor in program.weights.items():
                tensor.copy_(torch.from_numpy(home.weights[name]))
        return program, True
    if program.narrowed is None:
        return program, False
    try:
        return program.narrowed(home.weights), True
    except Exception as error:  # whatever a framework raises where sizes do not fit
        if faults.is_limit(error):
            raise
        faults.log(error)
        return program, False


def _written(program: Program | None, home: Home, workspace: Path) -> list[Path]:
    from safetensors.numpy import save_file

    weights = workspace / readme.WEIGHTS
    save_file({name: np.asarray(array, order="C") for name, array in home.weights.items()}, weights)
    files = [weights]
    if program is not None and program.save is not None:
        files.append(program.save(workspace))
    if home.kept:
        kept = workspace / readme.KEPT
        kept.write_text(json.dumps(_kept(home), indent=1), encoding="utf-8")
        files.append(kept)
    return files


def _kept(home: Home) -> dict[str, Any]:
    """Return which channels are left: of each layer, and of each axis of each weight."""
    return {
        "layers": {
            name: {"outputs": indices, "of": size} for name, (indices, size) in home.layers.items()
        },
        "weights": {
            name: {
                "shape": list(home.weights[name].shape),
                "wide_shape": list(home.wide[name]),
                "kept": {str(axis): indices for axis, indices in axes.items()},
            }
            for name, axes in home.kept.items()
        },
    }


def _array(tensor: Tensor) -> NDArray[Any]:
    plain = tensor.detach().cpu()
    array: NDArray[Any] = (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy().copy()
    return array


def _open(program: Program, source: Source) -> Runner:
    torch.set_num_threads(source.threads)

    def run(feeds: Feeds) -> list[NDArray[Any]]:
        tensors = [torch.from_numpy(feeds[spec.name]) for spec in program.inputs]
        return [_array(output) for output in program.run(tensors)]

    return Runner(f"{program.source} {program.version}", source.names, run)


SOURCE = Form("torch", "torch", make)
