"""What portions of layers gain if they are quantized: bytes, or time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

from workers.compression.graph import stats
from workers.compression.graph.shapes import sizes_of
from workers.compression.measure.latency import opened, time_ratio
from workers.compression.methods.quantize.exclusions import Write
from workers.compression.samples.context import Context

Portions = Sequence[Sequence[str]]
"""Names of layers; those of a portion are priced together."""


@dataclass(frozen=True)
class Gains:
    """A way to measure what portions of layers gain."""

    unit: Literal["time", "bytes"]
    measured: Callable[[Write, ir.Model, Portions, Context], list[float]]
    """Returns what each portion gains. Its arguments quantize a copy of the graph, the graph in
    float, the portions, and the context."""


_SECONDS = 12.0
"""The seconds of computing after which no further portion is timed."""


def _bytes_saved(
    write: Write, _model: ir.Model, portions: Portions, _context: Context
) -> list[float]:
    """Return the bytes that the weights of each portion save."""
    saved = {
        layer.node: float(layer.bytes_before - layer.bytes_after) for layer in write({}).layers
    }
    return [sum(saved.get(name, 0.0) for name in names) for names in portions]


def _time_saved(write: Write, model: ir.Model, portions: Portions, context: Context) -> list[float]:
    """Return the time that each portion saves, as a share of the time of the quantized graph.

    The graph is timed by turns with one that has the portion in float. Single portions save little
    beside the noise of the timing. So the saving of the whole graph is divided by
    multiply-accumulates, and moved only as far as the measured interval asks for.

    Args:
        write: quantizes a copy of the graph.
        model: the graph in float; not changed.
        portions: names of layers.
        context: an example for timing, without which multiply-accumulates count.
    """
    quantized, has_time = write({}).model, context.time_for(_SECONDS)
    shares = shares_of_work((model, quantized), portions, context)
    if not context.example:
        return shares
    session = opened(quantized, context.threads)
    whole = time_ratio(model, session, context.example, context.threads).value - 1
    gains = [max(whole, 0.0) * share for share in shares]
    for index in np.argsort(shares)[::-1].tolist():
        if not has_time():
            break
        without = write(dict.fromkeys(portions[index], "")).model
        ratio = time_ratio(without, session, context.example, context.threads)
        gains[index] = float(np.clip(gains[index], ratio.low - 1, ratio.high - 1))
    return gains


def shares_of_work(models: Sequence[ir.Model], portions: Portions, context: Context) -> list[float]:
    """Return the share of the multiply-accumulates of all portions that each one has.

    Args:
        models: graphs that hold the layers: in float, or in integers where they were split.
        portions: names of layers.
        context: a sample.
    """
    sample = context.samples_or_example(1)
    sizes = sizes_of(models[0], sample.first_run()) if len(sample) else {}
    measured = [layer for model in models for layer in stats.measure(model, sizes).layers]
    macs = {layer.name: layer.macs for layer in measured}
    sums = [float(sum(macs.get(name, 0) for name in names)) for names in portions]
    total = sum(sums)
    return [each / total if total else 1 / len(sums) for each in sums]


BYTES = Gains("bytes", _bytes_saved)
TIME = Gains("time", _time_saved)
