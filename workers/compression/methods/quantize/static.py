"""Static quantization: the ranges of activations are calibrated on data and written into the graph.

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
from workers.compression.measure.affordable import affordable
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.quantize import ranges
from workers.compression.methods.quantize.bias import mean_errors
from workers.compression.methods.quantize.comparison import (
    calibrating,
    output_sqnr,
    split_samples,
)
from workers.compression.methods.quantize.equalize import candidates
from workers.compression.methods.quantize.integers import (
    Floats,
    Grid,
    range_grid,
    weight_rounding,
)
from workers.compression.methods.quantize.judging import judging_of
from workers.compression.methods.quantize.layers import select
from workers.compression.methods.quantize.opset import lifted
from workers.compression.methods.quantize.own_grids import Split, with_own_grids
from workers.compression.methods.quantize.pairs import Site, runnable, site_of, write_quantized
from workers.compression.methods.quantize.selection import Prepared, quantize_profitable
from workers.compression.methods.quantize.smooth import MARGIN
from workers.compression.progress import span, turn
from workers.compression.samples.context import Context, Samples

_KEEPS_VALUES = ("Flatten", "Identity", "MaxPool", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
_CALIBRATION = 0.3
"""The share of the progress that is calibration, if layers may have to be ranked."""
_CORRECTING = 2e10
"""The multiply-accumulates of the float graph in the runs that give the mean errors of layers."""
_FEWEST = 8
"""The least number of samples of these runs."""
_NEARER = 0.1
"""The improvement in dB of the outputs for which biases are corrected."""
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
    notes: tuple[str, ...] = ()
    """What was done to keep quality, and what it brought."""
    nearness: float | None = None
    """The signal-to-noise ratio of the outputs on training samples in dB, where it was measured."""

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
        )
        return runnable(write, self.parameters)


def quantize_static(
    model: ir.Model, parameters: Quantize, context: Context, advance: Callable[[float], None]
) -> Outcome:
    """Quantize weights and, unless ``activations`` is ``none``, the activations around them.

    Layers that are slower in integers stay in float. If the job bounds the loss of quality, further
    layers stay in float until the bound is met.

    Raises:
        StepFailed: there is no data to calibrate on, or the opset is too old.
    """
    judging = judging_of(model, samples_to_judge(parameters, context), context)
    share = 1.0 if judging is None else _CALIBRATION
    prepared = prepare(model, parameters, context, span(advance, 0, share))
    choosing = span(advance, share, 1)
    return quantize_profitable(prepared, model, parameters, context, choosing, judging)


def prepare(
    model: ir.Model, parameters: Quantize, context: Context, advance: Callable[[float], None]
) -> Prepared:
    """Calibrate a graph, with grids and biases that keep its quality.

    Raises:
        StepFailed: there is no data to calibrate on, or the opset is too old.
    """
    split = _with_own_grids(lifted(model, parameters), parameters, context)
    calibrated = _calibrate_and_correct(split.model, parameters, context, advance)
    layers = [site.layer.node for site in calibrated.sites()]
    notes = [*_notes(split), *_calibrated(model, parameters, context), *calibrated.notes]
    return Prepared(calibrated.writer(), layers, notes)


def samples_to_judge(parameters: Quantize, context: Context) -> Samples | None:
    """Return the training samples that calibration does not look at; None without data."""
    if context.train is None:
        return None
    return split_samples(context.train, parameters, context.seed)[1]


def _with_own_grids(model: ir.Model, parameters: Quantize, context: Context) -> Split:
    """Split convolutions at the end whose channels differ in range, unless it is switched off."""
    if not parameters.own_grids or context.train is None or not len(context.train):
        return Split(model, [])
    samples = calibrating(model, parameters, context)
    count = affordable(model, samples, _CORRECTING, _FEWEST, len(samples))
    return with_own_grids(model, parameters, samples.take(samples.indices[:count]), context.threads)


def _notes(split: Split) -> list[str]:
    """Say which convolutions were split."""
    if not split.nodes:
        return []
    names = ", ".join(split.nodes)
    return [f"Split, so that channels of unlike range have grids of their own: {names}."]


def _calibrated(model: ir.Model, parameters: Quantize, context: Context) -> list[str]:
    """Say how many samples calibration looked at, where it had no time for all."""
    if context.train is None or not len(context.train) or parameters.activations == "none":
        return []
    drawn, _ = split_samples(context.train, parameters, context.seed)
    count = len(calibrating(model, parameters, context))
    if count == len(drawn):
        return []
    return [f"Calibration looked at {count} of {len(drawn)} samples: all would take too long."]


def calibrate_best(
    model: ir.Model, parameters: Quantize, context: Context, advance: Callable[[float], None]
) -> Calibrated:
    """Calibrate every variant that the parameters allow, and return the most accurate.

    Raises:
        StepFailed: there is no data to calibrate on, or the opset is too old.
    """
    return _chosen(_finalists(_variants(model, parameters, context, advance)))


def _calibrate_and_correct(
    model: ir.Model, parameters: Quantize, context: Context, advance: Callable[[float], None]
) -> Calibrated:
    """Calibrate as ``calibrate_best`` does, and correct biases before the last choice.

    What brings outputs nearer without the correction may keep them farther away with it.
    """
    finalists = _finalists(_variants(model, parameters, context, advance))
    corrected = [_with_corrected_biases(each, context) for each in finalists]
    if any(each.shifts for each in corrected):
        corrected = _measured(model, corrected, context, lambda _: None)
    return _chosen(corrected)


def _variants(
    model: ir.Model, parameters: Quantize, context: Context, advance: Callable[[float], None]
) -> list[Calibrated]:
    """Calibrate every graph that the parameters allow, with every rule for its ranges."""
    model = lifted(model, parameters)
    graphs = candidates(model, parameters, weight_rounding(parameters), context)
    variants = []
    for done, graph in enumerate(graphs):
        observing = turn(span(advance, 0, _OBSERVING), done, len(graphs))
        grids = calibrate(graph.model, parameters, context, observing)
        for rule, grids_of_rule in grids.items():
            fixed = parameters.model_copy(update={"ranges": rule})
            variants.append(Calibrated(graph.model, fixed, grids_of_rule, graph.layers))
    return _measured(model, variants, context, lambda f: advance(_OBSERVING + _CHOOSING * f))


def _measured(
    model: ir.Model,
    variants: Sequence[Calibrated],
    context: Context,
    advance: Callable[[float], None],
) -> list[Calibrated]:
    """Measure how near the outputs of variants are to the model's; one alone is not measured."""
    if len(variants) == 1:
        return [*variants]

    def written() -> Iterator[ir.Model]:
        for done, variant in enumerate(variants):
            advance(done / len(variants))
            yield variant.writer()({}).model

    ratios = output_sqnr(model, written(), variants[0].parameters, context)
    return [replace(each, nearness=db) for each, db in zip(variants, ratios, strict=True)]


def _finalists(variants: Sequence[Calibrated]) -> list[Calibrated]:
    """Return the nearest graph whose channels are as they were, and the nearest of the others."""
    plain = [each for each in variants if not each.smoothed]
    changed = [each for each in variants if each.smoothed]
    return [_nearest(each) for each in (plain, changed) if each]


def _chosen(finalists: Sequence[Calibrated]) -> Calibrated:
    """Return the nearest finalist, with a note of what was done to its channels."""
    best = _nearest(finalists)
    before = next((each.nearness for each in finalists if not each.smoothed), None)
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
    note = (
        f"Channels were {done}: the outputs' signal-to-noise ratio went from {before:.1f} to"
        f" {after:.1f} dB on training samples."
    )
    return (note,)


def _with_corrected_biases(calibrated: Calibrated, context: Context) -> Calibrated:
    """Correct biases by the mean errors of the layers, where that brings the outputs nearer."""
    parameters = calibrated.parameters
    rounds_activations = bool(calibrated.grids)
    if parameters.correct_bias is False or not rounds_activations or not context.has_time():
        return calibrated
    samples = calibrating(calibrated.model, parameters, context)
    count = affordable(calibrated.model, samples, _CORRECTING, _FEWEST, len(samples))
    shifts = mean_errors(
        calibrated.model,
        calibrated.sites(),
        calibrated.grids,
        parameters.weights,
        samples.take(samples.indices[:count]),
        context.threads,
    )
    if not shifts:
        return calibrated
    corrected = replace(calibrated, shifts={name: -error for name, error in shifts.items()})
    if parameters.correct_bias:
        note = f"Biases corrected: {len(shifts)}."
        return replace(corrected, notes=(*calibrated.notes, note))
    graphs = (each.writer()({}).model for each in (calibrated, corrected))
    before, after = output_sqnr(calibrated.model, graphs, parameters, context)
    if after < before + _NEARER:
        return calibrated
    note = (
        f"Biases corrected by the mean errors of {len(shifts)} layers: the outputs' signal-to-noise"
        f" ratio went from {before:.1f} to {after:.1f} dB on training samples."
    )
    return replace(corrected, notes=(*calibrated.notes, note))


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
    observed = observe(model, names, samples, context.threads, advance, histograms=needs_histograms)
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
    if context.train is None or len(context.train) == 0:
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
