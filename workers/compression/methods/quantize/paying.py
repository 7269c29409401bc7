"""Leaves layers alone where fewer bits were measured to be slower, or make a larger file.

Timed is the whole graph, by turns: what a layer costs in integers depends on its neighbours, which
integers flow to or have to be turned into floats for. Layers of one form are taken back together,
those first without which the graph is faster the most, until it is not slower than in float.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import log2, prod
from pathlib import Path

import onnx_ir as ir

from workers.compression.graph.load import files_of, store
from workers.compression.graph.operators import operand, operator_of
from workers.compression.graph.packing import packed
from workers.compression.measure.clock import shortest
from workers.compression.measure.latency import beside
from workers.compression.measure.ratio import Ratio
from workers.compression.methods.outcome import Outcome
from workers.compression.samples.context import Context

Write = Callable[[Mapping[str, str]], Outcome]
"""Quantizes all layers but those that are named, each with a reason."""

NOT_SLOWER = 0.97
"""The ratio of times that cannot be told from 1 on a machine that does other things."""

_FASTER = 1 / NOT_SLOWER
"""The ratio of times beyond which the graph without some layers is surely faster."""

_GROUPS = 8
"""Groups of layers, at most, that are timed."""

_SECONDS = 10.0
"""After which no further group is timed."""

_LITTLE_MS = 0.05
"""Time that nobody misses: as much as a call into a runtime takes from Python."""

_LITTLE_BYTES = 4096
"""Bytes that nobody misses: a page of a file system."""

_LARGER = "in integers it would make the file larger"


@dataclass(frozen=True)
class Paying:
    """Which layers stay in float so that a graph is neither slower nor larger than before."""

    left: dict[str, str]
    """Names of nodes, each with the reason."""
    notes: list[str]


def paying(
    write: Write, before: ir.Model, layers: Mapping[str, ir.Node], context: Context
) -> Paying:
    """Find the layers that had better stay in float.

    Args:
        write: quantizes a copy of the graph.
        before: the graph that must not become slower or larger; not changed.
        layers: the nodes that can be quantized, by name.
        context: an example to run, without which nothing is timed, and threads.
    """
    whole = write({})
    if not whole.layers:
        return Paying({}, [])
    left = _too_small(write, before, whole)
    if not context.example:
        return Paying(left, [])
    notes = list[str]()
    ratio = _ratio(before, write(left).model, context)
    slow = _slower_groups(write, left, layers, context)
    for place, (gain, names) in enumerate(slow):
        harmful = gain.low > _FASTER
        if not harmful and _is_not_slower(ratio):
            break
        reason = _reason(gain) if harmful else "the whole graph was measured to be faster without"
        left |= dict.fromkeys(names, reason)
        last = place + 1 == len(slow) or slow[place + 1][0].low <= _FASTER
        if last or not harmful:
            ratio = _ratio(before, write(left).model, context)
    if not _is_not_slower(ratio):
        words = f"the graph in integers was measured at {ratio.value:.2f} times the speed of floats"
        left |= {name: words for name in layers if name not in left}
    elif not ratio.certain:
        notes.append(
            f"The machine was busy: the graph in integers is {ratio.low:.2f} to {ratio.high:.2f}"
            " times as fast as in float."
        )
    return Paying(left, notes)


def file_bytes(model: ir.Model) -> int:
    """Return the bytes of the file that a graph is delivered in."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "graph.onnx"
        store(packed(model), path)
        return sum(file.stat().st_size for file in files_of(path))


def is_slower(before: ir.Model, after: ir.Model, context: Context) -> Ratio | None:
    """Return how many times as fast a graph is that was measured to be slower; None if it is not.

    Args:
        before: the graph to compare with.
        after: another one of the same inputs.
        context: an example to run, without which nothing is timed, and threads.
    """
    if not context.example:
        return None
    ratio = _ratio(before, after, context)
    return None if _is_not_slower(ratio) else ratio


def is_trivial(model: ir.Model, context: Context) -> bool:
    """Return whether a graph takes no longer than the call into the runtime around it.

    Its times would say more of the machine than of the graph, and change from run to run.
    """
    return bool(context.example) and (
        shortest(model, context.example, context.threads) <= _LITTLE_MS
    )


def costs_little(before: ir.Model, after: ir.Model, context: Context) -> bool:
    """Return whether a graph takes as good as no more time and bytes than another one."""
    if file_bytes(after) - file_bytes(before) > _LITTLE_BYTES:
        return False
    if not context.example:
        return True
    then, now = (shortest(each, context.example, context.threads) for each in (before, after))
    return now - then <= _LITTLE_MS


def _ratio(before: ir.Model, after: ir.Model, context: Context) -> Ratio:
    return beside(before, after, context.example, context.threads)


def _is_not_slower(ratio: Ratio) -> bool:
    return ratio.low >= NOT_SLOWER or ratio.value >= 1


def _too_small(write: Write, before: ir.Model, whole: Outcome) -> dict[str, str]:
    """Return the layers whose nodes take more bytes than their weights save, smallest first."""
    allowed = file_bytes(before)
    left: dict[str, str] = {}
    saving = sorted(whole.layers, key=lambda each: each.bytes_before - each.bytes_after)
    while file_bytes(write(left).model) > allowed and len(left) < len(saving):
        count = max(2 * len(left), 1)
        left = {each.node: _LARGER for each in saving[:count]}
    return left


def _slower_groups(
    write: Write, left: Mapping[str, str], layers: Mapping[str, ir.Node], context: Context
) -> list[tuple[Ratio, list[str]]]:
    """Return groups of layers with how much faster a graph is without each, the fastest first."""
    groups = _groups({name: node for name, node in layers.items() if name not in left})
    whole, begun = write(left).model, context.clock()
    found = list[tuple[Ratio, list[str]]]()
    for names in groups:
        if context.clock() - begun > _SECONDS:
            break
        without = write({**left, **dict.fromkeys(names, "")}).model
        found.append((_ratio(whole, without, context), names))
    return sorted(found, key=lambda each: -each[0].low)


def _groups(layers: Mapping[str, ir.Node]) -> list[list[str]]:
    """Part layers by their form; what is rare is put to its neighbour in size."""
    forms: dict[tuple[object, ...], list[str]] = {}
    for name, node in layers.items():
        forms.setdefault(_form(node), []).append(name)
    groups = [names for _, names in sorted(forms.items(), key=lambda each: repr(each[0]))]
    while len(groups) > _GROUPS:
        place = min(range(len(groups) - 1), key=lambda i: len(groups[i]) + len(groups[i + 1]))
        groups[place : place + 2] = [groups[place] + groups[place + 1]]
    return groups


def _form(node: ir.Node) -> tuple[object, ...]:
    """Return what the time of a layer depends on most: its operator, kernel and size."""
    operator = operator_of(node)
    slot = operator.weights[0] if operator is not None and operator.weights else 0
    weight = operand(node, slot)
    shape = weight.shape.numpy() if weight is not None and weight.shape is not None else ()
    grouped = node.attributes.get_int("group", 1) > 1
    return node.op_type, shape[2:], grouped, round(log2(max(prod(shape), 1)) / 4)


def _reason(gain: Ratio) -> str:
    return (
        f"in integers it was measured to be slower: without it and others of its form the graph is"
        f" {gain.value:.2f} times as fast"
    )


def names_of(nodes: Sequence[ir.Node]) -> dict[str, ir.Node]:
    """Return nodes by name."""
    return {str(node.name): node for node in nodes}
