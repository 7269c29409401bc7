"""Excludes layers from quantization that would make the graph slower, or its file larger.

The whole graph is timed, as the cost of a layer in integers depends on its neighbours: they may
read integers, or need conversions to float. Layers of one form are excluded together, starting with
the form whose exclusion gains the most time, until the graph is not slower than in float.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import log2, prod
from pathlib import Path

import onnx_ir as ir
import onnxruntime as ort

from workers.compression.graph.load import files_of, store
from workers.compression.graph.operators import operand, operator_of
from workers.compression.graph.packing import packed
from workers.compression.measure.clock import shortest
from workers.compression.measure.latency import opened, time_ratio
from workers.compression.measure.ratio import Ratio
from workers.compression.methods.outcome import Outcome
from workers.compression.samples.context import Context

Write = Callable[[Mapping[str, str]], Outcome]
"""Quantizes a graph; the argument holds the layers to exclude, by name, each with a reason."""

NOT_SLOWER = 0.97
"""The least speed ratio that counts as equal speed, given the noise of a busy machine."""

_FASTER = 1 / NOT_SLOWER
"""The least speed ratio at which the graph without some layers counts as faster."""

_GROUPS = 8
"""The greatest number of groups of layers that are timed."""

_SECONDS = 10.0
"""The seconds of computing after which no further group is timed."""

_LITTLE_MS = 0.05
"""The time, in milliseconds, that does not matter: a call from Python into the runtime takes it."""

_LITTLE_BYTES = 4096
"""The number of bytes that does not matter: a page of a file system."""

TOO_BUSY = "The machine was too busy"
"""What the note of an unclear measurement begins with."""

_LARGER = "in integers it would make the file larger"
_TOGETHER = "with such layers in integers the whole model was slower than in float"


@dataclass(frozen=True)
class Exclusions:
    """The layers that stay in float, so that the graph is neither slower nor larger than before."""

    excluded: dict[str, str]
    """The layers, by name, each with the reason."""
    notes: list[str]
    """What this machine was too busy to measure, and another try may tell; empty if nothing."""


def unprofitable(
    write: Write, original: ir.Model, layers: Mapping[str, ir.Node], context: Context
) -> Exclusions:
    """Return the layers that would make the graph slower or larger.

    Args:
        write: quantizes a copy of the graph.
        original: the graph that must not become slower or larger; not changed.
        layers: the nodes that can be quantized, by name.
        context: an example for timing, without which nothing is timed, and threads.
    """
    quantized = write({})
    if not quantized.layers:
        return Exclusions({}, [])
    return context.prices.figures(
        ("unprofitable", context.name_of(quantized.model)),
        Exclusions,
        lambda: _unprofitable(write, original, quantized, layers, context),
        lambda known: not known.notes,
    )


def _unprofitable(
    write: Write,
    original: ir.Model,
    quantized: Outcome,
    layers: Mapping[str, ir.Node],
    context: Context,
) -> Exclusions:
    """Measure which layers would make the graph slower or larger; see ``unprofitable``."""
    excluded = _too_small(write, original, quantized)
    if not context.example:
        return Exclusions(excluded, [])
    notes = list[str]()
    ratio = speed_ratio(original, write(excluded).model, context, holds=_is_clear)
    groups = _slower_groups(write, excluded, layers, context)
    for index, (gain, names) in enumerate(groups):
        harmful = gain.low > _FASTER
        if not harmful and is_not_slower(ratio):
            break
        reason = _reason(gain) if harmful else _TOGETHER
        excluded |= dict.fromkeys(names, reason)
        is_last = index + 1 == len(groups) or groups[index + 1][0].low <= _FASTER
        if is_last or not harmful:
            ratio = speed_ratio(original, write(excluded).model, context, holds=_is_clear)
    if not is_not_slower(ratio):
        reason_for_all = (
            f"in integers the model would be slower: {ratio.value:.2f} times as fast as in float"
        )
        excluded |= {name: reason_for_all for name in layers if name not in excluded}
    elif not _is_clear(ratio) and write(excluded).layers:
        notes.append(
            f"{TOO_BUSY} to measure whether the layers that compute in integers make this model"
            " faster: run the job again when the machine is idle."
        )
    return Exclusions(excluded, notes)


def excluding(write: Write, excluded: Mapping[str, str]) -> Write:
    """Return what quantizes as ``write`` does, and leaves these layers out as well."""
    return lambda more_excluded: write({**excluded, **more_excluded})


def file_bytes(model: ir.Model) -> int:
    """Return the size of the file, in bytes, that a graph is delivered in."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "graph.onnx"
        store(packed(model), path)
        return sum(file.stat().st_size for file in files_of(path))


def is_slower(original: ir.Model, other: ir.Model, context: Context) -> Ratio | None:
    """Return the speed ratio of a graph if it was measured to be slower; None if it was not.

    Args:
        original: the graph to compare with.
        other: a graph with the same inputs.
        context: an example for timing, without which nothing is timed, and threads.
    """
    if not context.example:
        return None
    ratio = speed_ratio(original, other, context)
    return None if is_not_slower(ratio) else ratio


def is_trivial(model: ir.Model, context: Context) -> bool:
    """Return whether a graph takes no longer than the call into the runtime.

    Its times would depend on the machine more than on the graph, and differ from run to run.
    """
    return bool(context.example) and _shortest_ms(model, context) <= _LITTLE_MS


def costs_little(original: ir.Model, other: ir.Model, context: Context) -> bool:
    """Return whether a graph takes hardly more time and bytes than the original."""
    if file_bytes(other) - file_bytes(original) > _LITTLE_BYTES:
        return False
    if not context.example:
        return True
    return _shortest_ms(other, context) - _shortest_ms(original, context) <= _LITTLE_MS


def _shortest_ms(model: ir.Model, context: Context) -> float:
    """Return the shortest time of a run in milliseconds."""
    return context.prices.figures(
        ("shortest", context.name_of(model)),
        float,
        lambda: float(shortest(model, context.example, context.threads)),
    )


def speed_ratio(
    original: ir.Model,
    other: ir.Model,
    context: Context,
    round_: int = 0,
    holds: Callable[[Ratio], bool] = lambda _: True,
) -> Ratio:
    """Return how many times longer the original takes: timed once in each round.

    Args:
        original: the graph that the step was given.
        other: a graph with the same inputs.
        context: an example, and threads.
        round_: a number; with another one the same graph is timed anew.
        holds: whether a ratio that is known is good enough; it is timed anew where it is not.
    """
    return context.prices.figures(
        ("speed", context.name_of(other), round_),
        Ratio,
        lambda: _ratio(original, other, context),
        holds,
    )


def _ratio(original: ir.Model | ort.InferenceSession, other: ir.Model, context: Context) -> Ratio:
    return time_ratio(original, other, context.example, context.threads)


def is_not_slower(ratio: Ratio) -> bool:
    """Return whether a graph is as fast as another one, given the noise of a busy machine."""
    return ratio.low >= NOT_SLOWER or ratio.value >= 1


def _is_clear(ratio: Ratio) -> bool:
    """Return whether it is told if a graph is slower; of one that only seems faster it is not."""
    return ratio.low >= NOT_SLOWER or ratio.value < 1


def _too_small(write: Write, original: ir.Model, quantized: Outcome) -> dict[str, str]:
    """Return the layers to exclude, those that save least first, until the file is not larger."""
    allowed = file_bytes(original)
    excluded: dict[str, str] = {}
    by_saving = sorted(quantized.layers, key=lambda layer: layer.bytes_before - layer.bytes_after)
    while file_bytes(write(excluded).model) > allowed and len(excluded) < len(by_saving):
        count = max(2 * len(excluded), 1)
        excluded = {layer.node: _LARGER for layer in by_saving[:count]}
    return excluded


def _slower_groups(
    write: Write, excluded: Mapping[str, str], layers: Mapping[str, ir.Node], context: Context
) -> list[tuple[Ratio, list[str]]]:
    """Return groups of layers with the speed-up of excluding each, in descending order."""
    groups = _groups({name: node for name, node in layers.items() if name not in excluded})
    quantized = opened(write(excluded).model, context.threads)
    has_time = context.time_for(_SECONDS)
    groups_timed = list[tuple[Ratio, list[str]]]()
    for names in groups:
        if not has_time():
            break
        without = write({**excluded, **dict.fromkeys(names, "")}).model
        groups_timed.append((_ratio(quantized, without, context), names))
    return sorted(groups_timed, key=lambda timed: -timed[0].low)


def _groups(layers: Mapping[str, ir.Node]) -> list[list[str]]:
    """Group layers by their form; if there are too many groups, merge the smallest neighbours."""
    forms: dict[tuple[object, ...], list[str]] = {}
    for name, node in layers.items():
        forms.setdefault(_form(node), []).append(name)
    groups = [names for _, names in sorted(forms.items(), key=lambda item: repr(item[0]))]
    while len(groups) > _GROUPS:
        index = min(range(len(groups) - 1), key=lambda i: len(groups[i]) + len(groups[i + 1]))
        groups[index : index + 2] = [groups[index] + groups[index + 1]]
    return groups


def _form(node: ir.Node) -> tuple[object, ...]:
    """Return a layer's operator, kernel and rough size, which its time depends on most."""
    operator = operator_of(node)
    slot = operator.weights[0] if operator is not None and operator.weights else 0
    weight = operand(node, slot)
    shape = weight.shape.numpy() if weight is not None and weight.shape is not None else ()
    grouped = node.attributes.get_int("group", 1) > 1
    return node.op_type, shape[2:], grouped, round(log2(max(prod(shape), 1)) / 4)


def _reason(gain: Ratio) -> str:
    return (
        "integers make such layers slower: with them in float the model runs"
        f" {gain.value:.2f} times faster"
    )


def names_of(nodes: Sequence[ir.Node]) -> dict[str, ir.Node]:
    """Return nodes by name."""
    return {str(node.name): node for node in nodes}
