"""The passes that bring a checked upload to the normal form, in one explicit order.

Each pass is judged by the outputs of the graph that it leaves; one that changes them is undone and
named.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from workers.compression import faults
from workers.compression.graph import equivalence
from workers.compression.graph.equivalence import Trial
from workers.compression.graph.load import save
from workers.compression.graph.rewrites.affine import fold_affine
from workers.compression.graph.rewrites.batchnorm import fold_batchnorm
from workers.compression.graph.rewrites.branches import inline_branches
from workers.compression.graph.rewrites.constants import lift_constants
from workers.compression.graph.rewrites.dead import remove_dead
from workers.compression.graph.rewrites.einsum import spell_out_einsum
from workers.compression.graph.rewrites.fold import fold_constants
from workers.compression.graph.rewrites.functions import inline_functions
from workers.compression.graph.rewrites.gelu import recognise_gelu
from workers.compression.graph.rewrites.hardswish import recognise_hardswish
from workers.compression.graph.rewrites.identity import remove_identities
from workers.compression.graph.rewrites.inputs import detach_initializers
from workers.compression.graph.rewrites.layernorm import recognise_layer_normalization
from workers.compression.graph.rewrites.loops import unroll_loops
from workers.compression.graph.rewrites.opset import lift_opset
from workers.compression.graph.rewrites.shapes import infer_shapes

Pass = Callable[[ir.Model], int]
"""Changes a model in place and returns how many changes it made."""

PASSES: tuple[Pass, ...] = (
    inline_functions,
    detach_initializers,
    lift_constants,
    lift_opset,
    inline_branches,
    unroll_loops,
    remove_identities,
    spell_out_einsum,
    fold_constants,
    fold_batchnorm,
    fold_affine,
    recognise_layer_normalization,
    recognise_gelu,
    recognise_hardswish,
    remove_dead,
    infer_shapes,
)


@dataclass(frozen=True)
class Applied:
    """A pass whose result was kept."""

    name: str
    changes: int


@dataclass(frozen=True)
class Undone:
    """A pass whose result was thrown away, and why."""

    name: str
    reason: str


def normalize(
    model: ir.Model,
    directory: Path,
    trials: Sequence[Trial],
    passes: Sequence[Pass] = PASSES,
) -> tuple[ir.Model, list[Applied | Undone]]:
    """Run the passes over a copy of ``model``.

    Args:
        model: a checked, self-contained graph; not changed.
        directory: where candidates are written for a moment.
        trials: what the outputs must stay equal to.
        passes: in this order.

    Returns:
        The normal form and what each pass did.
    """
    current, done = model.clone(), list[Applied | Undone]()
    for each in passes:
        candidate = current.clone()
        name = each.__name__
        try:
            changes = each(candidate)
            reason = _difference(candidate, directory, trials) if changes else None
        except Exception as error:  # noqa: BLE001 (a pass that fails is a pass undone)
            faults.log(error)
            node = faults.node_of(error)
            done.append(Undone(name, f"it failed at node {node}" if node else "it failed"))
            continue
        if reason is None:
            current = candidate
            done.append(Applied(name, changes))
        else:
            done.append(Undone(name, reason))
    return current, done


def _difference(model: ir.Model, directory: Path, trials: Sequence[Trial]) -> str | None:
    with tempfile.TemporaryDirectory(dir=directory, prefix="candidate-") as scratch:
        path = Path(scratch) / "candidate.onnx"
        save(model, path)
        return equivalence.check(path, trials)
