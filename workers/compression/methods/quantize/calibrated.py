"""Calibrates a graph: the ranges of activations on data, by every rule, and with changed channels.

The rule that chooses ranges, and whether channels are smoothed first, are found by measuring,
unless the parameters set them. All variants are quantized and run on a few training samples, and
the one whose outputs are closest to those of the float graph is taken.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import onnx_ir as ir

from app.domain.problems import StepFailed
from app.domain.steps import Quantize, RangeRule
from workers.compression.looking.calibrate import observe
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.quantize import ranges
from workers.compression.methods.quantize.comparison import calibrating, output_sqnr, went
from workers.compression.methods.quantize.equalize import candidates
from workers.compression.methods.quantize.integers import (
    Floats,
    Grid,
    range_grid,
    weight_rounding,
)
from workers.compression.methods.quantize.layers import select
from workers.compression.methods.quantize.opset import lifted
from workers.compression.methods.quantize.pairs import Site, runnable, site_of, write_quantized
from workers.compression.methods.quantize.smooth import MARGIN
from workers.compression.progress import span, turn
from workers.compression.samples.context import Context, Samples

_KEEPS_VALUES = ("Flatten", "Identity", "MaxPool", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
_OBSERVING, _CHOOSING = 0.7, 0.3
"""The shares of the calibration's progress: observing values, and comparing variants."""


@dataclass(frozen=True)
class Calibrated:
    """A calibrated graph: a float graph, and the grids with which it is quantized."""

    model: ir.Model
    parameters: Quantize
    """The step's parameters, with the rule that chose the ranges."""
    grids: Mapping[str, Grid]
    """The grid of every value that is quantized and was finite on the data, by name."""
    smoothed: Mapping[str, str]
    """What was done to the input of layers; see ``Smoothed``."""
    shifts: Mapping[str, Floats] = field(default_factory=dict)
    """What is added to biases, ``[channels]``, by the layer's name."""
    rounded: Mapping[str, Floats] = field(default_factory=dict)
    """Weights whose rounding was learned, by the layer's name; see ``rounding``."""
    notes: tuple[str, ...] = ()
    """What was done to keep quality, and what it brought."""
    nearness: float | None = None
    """The signal-to-noise ratio of the outputs on training samples in dB; None if not measured."""

    def sites(self) -> list[Site]:
        """Return the layers to quantize, with the values around them."""
        layers, _ = select(self.model, self.parameters)
        return [site_of(layer, self.parameters) for layer in layers]

    def writer(self) -> Callable[..., Outcome]:
        """Return the function that quantizes the graph; its argument is the excluded nodes."""
        write = partial(
            write_quantized,
            self.model,
            self.parameters,
            self.grids,
            smoothed=self.smoothed,
            shifts=self.shifts,
            rounded=self.rounded,
        )
        return runnable(write, self.parameters)


def calibrate_best(
    model: ir.Model, parameters: Quantize, context: Context, advance: Callable[[float], None]
) -> Calibrated:
    """Calibrate every variant that the parameters allow, and return the most accurate.

    Raises:
        StepFailed: there is no data to calibrate on, or the opset is too old.
    """
    return chosen(finalists(variants(model, parameters, context, advance)))


def variants(
    model: ir.Model, parameters: Quantize, context: Context, advance: Callable[[float], None]
) -> list[Calibrated]:
    """Calibrate every graph that the parameters allow, with every rule for its ranges."""
    model = lifted(model, parameters)
    graphs = candidates(model, parameters, weight_rounding(parameters), context)
    calibrated = list[Calibrated]()
    for done, graph in enumerate(graphs):
        if calibrated and not context.has_time():
            break
        observing = turn(span(advance, 0, _OBSERVING), done, len(graphs))
        grids = calibrate(graph.model, parameters, context, observing)
        for rule, grids_of_rule in grids.items():
            fixed = parameters.model_copy(update={"ranges": rule})
            calibrated.append(Calibrated(graph.model, fixed, grids_of_rule, graph.layers))
    return measured(model, calibrated, context, lambda f: advance(_OBSERVING + _CHOOSING * f))


def measured(
    model: ir.Model,
    compared: Sequence[Calibrated],
    context: Context,
    advance: Callable[[float], None],
) -> list[Calibrated]:
    """Measure how near the outputs of variants are to the model's, where that is not known yet.

    One variant alone is not measured. Those that there is no time for are left out, but for the
    first one where none is known.
    """
    unknown = [each for each in compared if each.nearness is None]
    if len(compared) == 1 or not unknown:
        return [*compared]
    if not context.has_time():
        return [each for each in compared if each.nearness is not None] or [compared[0]]

    def written() -> Iterator[ir.Model]:
        for done, variant in enumerate(unknown):
            if done and not context.has_time():
                break
            advance(done / len(unknown))
            yield variant.writer()({}).model

    ratios = iter(output_sqnr(model, written(), compared[0].parameters, context))
    tried = [
        replace(each, nearness=next(ratios, None)) if each.nearness is None else each
        for each in compared
    ]
    return [each for each in tried if each.nearness is not None]


def finalists(compared: Sequence[Calibrated]) -> list[Calibrated]:
    """Return the nearest graph whose channels are as they were, and the nearest of the others."""
    plain = [each for each in compared if not each.smoothed]
    changed = [each for each in compared if each.smoothed]
    return [_nearest(each) for each in (plain, changed) if each]


def chosen(compared: Sequence[Calibrated]) -> Calibrated:
    """Return the nearest finalist, with a note of what was done to its channels."""
    best = _nearest(compared)
    before = next((each.nearness for each in compared if not each.smoothed), None)
    note = _smoothing_note(best.smoothed, before, best.nearness)
    return replace(best, notes=(*note, *best.notes))


def _nearest(variants: Sequence[Calibrated]) -> Calibrated:
    """Return the nearest variant; changed channels have to be nearer by a margin."""
    if len(variants) == 1:
        return variants[0]

    def worth(variant: Calibrated) -> float:
        assert variant.nearness is not None, "variants are compared once they are measured"
        return variant.nearness - MARGIN * bool(variant.smoothed)

    return max(variants, key=worth)


def _smoothing_note(
    smoothed: Mapping[str, str], before: float | None, after: float | None
) -> tuple[str, ...]:
    """Say what was done to channels, and what it brought where that was measured.

    Args:
        smoothed: what was done to the input of each layer.
        before: the signal-to-noise ratio of the outputs without it, in dB, if it was measured.
        after: that with it, likewise.
    """
    if not smoothed:
        return ()
    counts = Counter(smoothed.values()).items()
    done = " and ".join(f"{word} before {count} layers" for word, count in counts)
    if before is None or after is None:
        return (f"Channels were {done}.",)
    return (f"Channels were {done}: {went(before, after)}",)


def calibrate(
    model: ir.Model, parameters: Quantize, context: Context, advance: Callable[[float], None]
) -> dict[RangeRule, dict[str, Grid]]:
    """Return, for each range rule, the grid of every value that is quantized and is finite."""
    sites = [site_of(layer, parameters) for layer in select(model, parameters)[0]]
    values = dict.fromkeys(value for site in sites for value in site.values)
    rules = parameters.range_rules
    if not values:
        return {rules[0]: {}}
    sources = {value: _source(value) for value in values}
    names = list(dict.fromkeys(str(source.name) for source in sources.values()))
    samples = _calibration_samples(model, parameters, context)
    needs_histograms = rules != ("minmax",)
    observed = observe(
        model, names, samples, context.threads, advance,
        histograms=needs_histograms, has_time=context.has_time,
    )  # fmt: skip
    dtype, symmetric = parameters.activations, parameters.symmetric
    grids: dict[RangeRule, dict[str, Grid]] = {}
    for rule in rules:
        find = ranges.finder(parameters, rule)
        found_ranges = {name: find(observed[name]) for name in names if observed[name].finite}
        grids[rule] = {
            str(value.name): range_grid(*found_ranges[str(source.name)], dtype, symmetric=symmetric)
            for value, source in sources.items()
            if source.name in found_ranges
        }
    return grids


def _calibration_samples(model: ir.Model, parameters: Quantize, context: Context) -> Samples:
    """Draw the calibration samples from the training split."""
    if not context.train:
        raise StepFailed(
            "Static quantization calibrates activations on data: name a dataset, or use"
            " mode 'dynamic', or activations 'none'."
        )
    return calibrating(model, parameters, context)


def _source(value: ir.Value) -> ir.Value:
    """Follow a value back through operators that do not change values."""
    while (node := value.producer()) is not None and node.op_type in _KEEPS_VALUES:
        data = node.inputs[0]
        if data is None or data.is_initializer():
            break
        value = data
    return value
