"""The passes that bring a checked upload to the normal form, in one explicit order.

Each pass is judged by the outputs of the graph that it leaves; one that changes them is undone and
named.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from workers.compression import faults
from workers.compression.graph import equivalence, runtime
from workers.compression.graph.equivalence import Trial
from workers.compression.graph.load import load
from workers.compression.graph.rewrites.affine import fold_affine
from workers.compression.graph.rewrites.batchnorm import fold_batchnorm
from workers.compression.graph.rewrites.branches import inline_branches
from workers.compression.graph.rewrites.constants import lift_constants
from workers.compression.graph.rewrites.dead import remove_dead
from workers.compression.graph.rewrites.einsum import spell_out_einsum
from workers.compression.graph.rewrites.float32 import compute_in_float32
from workers.compression.graph.rewrites.fold import fold_constants
from workers.compression.graph.rewrites.functions import inline_functions
from workers.compression.graph.rewrites.gelu import recognise_gelu
from workers.compression.graph.rewrites.hardswish import recognise_hardswish
from workers.compression.graph.rewrites.hoist import hoist_constants
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
    compute_in_float32,
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
    hoist_constants,
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
    source: Path,
    trials: Sequence[Trial],
    passes: Sequence[Pass] = PASSES,
) -> tuple[ir.Model, list[Applied | Undone]]:
    """Run the passes over a graph.

    All passes are judged together, which is one run for most graphs. Where the outputs change, the
    first pass that changes them is found by halving, and the others run once more without it.

    Args:
        source: the file of a checked, self-contained graph.
        trials: what the outputs must stay equal to.
        passes: in this order, each once.

    Returns:
        The normal form and what each pass did.
    """
    judge, undone = _Judge(source, trials), dict[Pass, str]()
    while True:
        attempt = _run(source, [each for each in passes if each not in undone])
        fault = attempt.fault or judge.first_fault(attempt)
        if fault is None:
            break
        undone[fault[0]] = fault[1]
    return attempt.model, [
        Undone(each.__name__, undone[each])
        if each in undone
        else Applied(each.__name__, attempt.changes[each])
        for each in passes
    ]


@dataclass(frozen=True)
class _Attempt:
    """What passes made of a graph."""

    model: ir.Model
    changes: dict[Pass, int]
    fault: tuple[Pass, str] | None
    """The pass that failed, after which none ran, and why."""


def _run(source: Path, passes: Sequence[Pass]) -> _Attempt:
    model, changes = load(source), dict[Pass, int]()
    for each in passes:
        try:
            changes[each] = each(model)
        except Exception as error:  # noqa: BLE001 (a pass that fails is a pass undone)
            faults.log(error)
            node = faults.node_of(error)
            reason = f"it failed at node {node}" if node else "it failed"
            return _Attempt(model, changes, (each, reason))
    return _Attempt(model, changes, None)


class _Judge:
    """Compares what passes made with the graph that they were given."""

    def __init__(self, source: Path, trials: Sequence[Trial]) -> None:
        self._source = source
        self._trials, self._noise_is_known = trials, False

    def first_fault(self, attempt: _Attempt) -> tuple[Pass, str] | None:
        """Return the first pass after which the outputs differ, and how; None where none does."""
        passes = list(attempt.changes)
        reason = self._difference(attempt.model) if any(attempt.changes.values()) else None
        if reason is None:
            return None
        right, wrong = 0, len(passes)
        while wrong - right > 1:
            middle = (right + wrong) // 2
            found = self._difference(_run(self._source, passes[:middle]).model)
            if found is None:
                right = middle
            else:
                wrong, reason = middle, found
        return passes[wrong - 1], reason

    def _difference(self, model: ir.Model) -> str | None:
        with runtime.in_file(model) as path:
            reason = equivalence.check(path, self._trials, len(model.graph))
            if reason is None or self._noise_is_known:
                return reason
            self._trials = equivalence.with_noise(self._source, self._trials, len(model.graph))
            self._noise_is_known = True
            return equivalence.check(path, self._trials, len(model.graph))
