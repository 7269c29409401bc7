"""Static quantization: ranges of activations are found on data and written into the graph.

How values become ranges, and whether channels are smoothed first, is chosen by measuring, unless
the parameters say it: the ways are written, run on a few training samples, and the one whose
outputs are nearest to the float graph's is taken.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx_ir as ir

from app.domain.problems import StepFailed
from app.domain.steps import Quantize, RangeRule
from workers.compression.looking.calibrate import observe
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.quantize import ranges
from workers.compression.methods.quantize.integers import Grid, range_grid, weight_rounding
from workers.compression.methods.quantize.layers import select
from workers.compression.methods.quantize.nearest import nearness, parted
from workers.compression.methods.quantize.opset import lifted
from workers.compression.methods.quantize.pairs import Site, runnable, site_of, write_quantized
from workers.compression.methods.quantize.settling import settled
from workers.compression.methods.quantize.smooth import MARGIN, candidates
from workers.compression.samples.context import Context, Samples

_KEEPS_VALUES = ("Flatten", "Identity", "MaxPool", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
_CALIBRATION = 0.3
"""Share of the work that is calibration where layers may have to be ranked."""
_OBSERVING, _CHOOSING = 0.7, 0.3
"""Parts of calibration."""


@dataclass(frozen=True)
class Start:
    """A graph in float with all that is needed to write it in integers."""

    model: ir.Model
    parameters: Quantize
    """With the way to find ranges that was taken."""
    grids: Mapping[str, Grid]
    """Of every value that is to be quantized and is finite, by name."""
    smoothed: frozenset[str]
    """Names of the products whose input was smoothed."""

    def sites(self) -> list[Site]:
        """Return the layers, and the values around them, that are to be quantized."""
        layers, _ = select(self.model, self.parameters)
        return [site_of(layer, self.parameters) for layer in layers]

    def writer(self) -> Callable[..., Outcome]:
        """Return ``write_quantized`` of this, but for the nodes that stay in float."""
        write = partial(
            write_quantized, self.model, self.parameters, self.grids, smoothed=self.smoothed
        )
        return runnable(write, self.parameters)


def quantize_static(
    model: ir.Model, parameters: Quantize, context: Context, advance: Callable[[float], None]
) -> Outcome:
    """Quantize weights and, unless ``activations`` is ``none``, the activations around them.

    Layers in which integers are slower stay in float, and where the job bounds its loss of quality,
    so do others until the bound is kept.

    Raises:
        StepFailed: there is no data to calibrate on, or the opset is too old.
    """
    share = 1.0 if context.max_quality_drop is None else _CALIBRATION
    begun = start(model, parameters, context, lambda f: advance(share * f))
    layers = [site.layer.node for site in begun.sites()]
    judged = parted(context.train, parameters, context.seed)[1] if context.train else None
    return settled(
        begun.writer(), model, layers, parameters, context,
        lambda f: advance(share + f * (1 - share)), judged,
    )  # fmt: skip


def start(
    model: ir.Model, parameters: Quantize, context: Context, advance: Callable[[float], None]
) -> Start:
    """Calibrate in every way that the parameters leave open, and take the nearest.

    Raises:
        StepFailed: there is no data to calibrate on, or the opset is too old.
    """
    model = lifted(model, parameters)
    graphs = candidates(model, parameters, weight_rounding(parameters), context)
    ways = []
    for done, graph in enumerate(graphs):

        def observing(fraction: float, done: int = done) -> None:
            advance(_OBSERVING * (done + fraction) / len(graphs))

        grids = calibrate(graph.model, parameters, context, observing)
        for rule, found in grids.items():
            fixed = parameters.model_copy(update={"ranges": rule})
            ways.append(Start(graph.model, fixed, found, graph.layers))
    if len(ways) == 1:
        return ways[0]

    def written() -> Iterator[ir.Model]:
        for done, way in enumerate(ways):
            advance(_OBSERVING + _CHOOSING * done / len(ways))
            yield way.writer()({}).model

    ratios = nearness(model, written(), parameters, context)
    costs = [MARGIN * bool(way.smoothed) for way in ways]
    return ways[int(np.argmax(np.subtract(ratios, costs)))]


def calibrate(
    model: ir.Model, parameters: Quantize, context: Context, advance: Callable[[float], None]
) -> dict[RangeRule, dict[str, Grid]]:
    """Return the grid of every value that is to be quantized and is finite, for each way."""
    sites = [site_of(layer, parameters) for layer in select(model, parameters)[0]]
    values = dict.fromkeys(value for site in sites for value in site.values)
    rules = parameters.range_rules
    if not values:
        return {rules[0]: {}}
    sources = {value: _source(value) for value in values}
    names = list(dict.fromkeys(str(source.name) for source in sources.values()))
    samples = _calibration_samples(parameters, context)
    binned = rules != ("minmax",)
    seen = observe(model, names, samples, context.threads, advance, histograms=binned)
    dtype, symmetric = parameters.activations, parameters.symmetric
    grids: dict[RangeRule, dict[str, Grid]] = {}
    for rule in rules:
        find = ranges.finder(parameters, rule)
        found = {name: find(seen[name]) for name in names if seen[name].finite}
        grids[rule] = {
            str(value.name): range_grid(*found[str(source.name)], dtype, symmetric=symmetric)
            for value, source in sources.items()
            if source.name in found
        }
    return grids


def _calibration_samples(parameters: Quantize, context: Context) -> Samples:
    """Draw the calibration samples from the training split."""
    if context.train is None or len(context.train) == 0:
        raise StepFailed(
            "Static quantization calibrates activations on data: name a dataset, or use"
            " mode 'dynamic', or activations 'none'."
        )
    return parted(context.train, parameters, context.seed)[0]


def _source(value: ir.Value) -> ir.Value:
    """Follow a value back through operators that do not change values."""
    while (node := value.producer()) is not None and node.op_type in _KEEPS_VALUES:
        before = node.inputs[0]
        if before is None or before.is_initializer():
            break
        value = before
    return value
