"""The passes that bring a checked upload to the normal form, in one explicit order.

After a pass the graph must give the same outputs; a pass that changes them is undone and named.
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
from workers.compression.graph.rewrites.castlike import spell_out_castlike
from workers.compression.graph.rewrites.constants import lift_constants
from workers.compression.graph.rewrites.dead import remove_dead
from workers.compression.graph.rewrites.einsum import spell_out_einsum
from workers.compression.graph.rewrites.float32 import compute_in_float32
from workers.compression.graph.rewrites.fold import fold_constants
from workers.compression.graph.rewrites.functions import inline_functions
from workers.compression.graph.rewrites.fused import spell_out_fused
from workers.compression.graph.rewrites.gelu import recognise_gelu
from workers.compression.graph.rewrites.hardswish import recognise_hardswish
from workers.compression.graph.rewrites.hoist import hoist_constants
from workers.compression.graph.rewrites.identity import remove_identities
from workers.compression.graph.rewrites.inputs import detach_initializers
from workers.compression.graph.rewrites.layernorm import recognise_layer_normalization
from workers.compression.graph.rewrites.loops import unroll_loops
from workers.compression.graph.rewrites.opset import lift_opset
from workers.compression.graph.rewrites.shapes import infer_shapes
from workers.compression.graph.rewrites.views import remove_views

Pass = Callable[[ir.Model], int]
"""Changes a model in place and returns how many changes it made."""

PASSES: tuple[Pass, ...] = (
    inline_functions,
    detach_initializers,
    lift_constants,
    lift_opset,
    spell_out_castlike,
    compute_in_float32,
    spell_out_fused,
    inline_branches,
    unroll_loops,
    remove_identities,
    spell_out_einsum,
    remove_views,
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
    """A pass whose result was discarded, and why."""

    name: str
    reason: str


def normalize(
    source: Path,
    trials: Sequence[Trial],
    passes: Sequence[Pass] = PASSES,
) -> tuple[ir.Model, list[Applied | Undone]]:
    """Run the passes over a graph.

    All passes are checked together, which takes one run for most graphs. Where the outputs change,
    bisection finds the first pass that changes them, and the others are run again without it.

    Args:
        source: the file of a checked, self-contained graph.
        trials: inputs and the outputs that must not change.
        passes: the passes to run, in this order.

    Returns:
        The normal form, and the result of each pass.
    """
    judge, undone = _Judge(source, trials), dict[Pass, str]()
    while True:
        attempt = _run(source, [rewrite for rewrite in passes if rewrite not in undone])
        fault = attempt.fault or judge.first_fault(attempt)
        if fault is None:
            break
        undone[fault[0]] = fault[1]
    return attempt.model, [
        Undone(rewrite.__name__, undone[rewrite])
        if rewrite in undone
        else Applied(rewrite.__name__, attempt.changes[rewrite])
        for rewrite in passes
    ]


@dataclass(frozen=True)
class _Attempt:
    """The graph after some passes."""

    model: ir.Model
    changes: dict[Pass, int]
    fault: tuple[Pass, str] | None
    """The pass that failed and the reason; later passes were not run."""


def _run(source: Path, passes: Sequence[Pass]) -> _Attempt:
    model, changes = load(source), dict[Pass, int]()
    for rewrite in passes:
        try:
            changes[rewrite] = rewrite(model)
        except Exception as error:  # noqa: BLE001 (a pass that fails is a pass undone)
            faults.log(error)
            node = faults.node_of(error)
            reason = f"it failed at node {node}" if node else "it failed"
            return _Attempt(model, changes, (rewrite, reason))
    return _Attempt(model, changes, None)


class _Judge:
    """Compares the graph after passes with the graph before them."""

    def __init__(self, source: Path, trials: Sequence[Trial]) -> None:
        self._source = source
        self._trials, self._noise_is_known = trials, False

    def first_fault(self, attempt: _Attempt) -> tuple[Pass, str] | None:
        """Return the first pass that changes the outputs, and how; None if there is none."""
        passes = list(attempt.changes)
        reason = self._difference(attempt.model) if any(attempt.changes.values()) else None
        if reason is None:
            return None
        good, bad = 0, len(passes)
        while bad - good > 1:
            middle = (good + bad) // 2
            difference = self._difference(_run(self._source, passes[:middle]).model)
            if difference is None:
                good = middle
            else:
                bad, reason = middle, difference
        return passes[bad - 1], reason

    def _difference(self, model: ir.Model) -> str | None:
        with runtime.in_file(model) as path:
            reason = equivalence.check(path, self._trials, len(model.graph))
            if reason is None or self._noise_is_known:
                return reason
            self._trials = equivalence.with_noise(self._source, self._trials, len(model.graph))
            self._noise_is_known = True
            return equivalence.check(path, self._trials, len(model.graph))
