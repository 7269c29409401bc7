"""Quantization-aware training: the graph that is trained computes like the graph that is delivered.

The graph gets the QDQ pairs of static quantization; each weight stays float and gets a pair too.
The graph is trained with straight-through gradients (Bengio et al. 2013) and, if the step asks for
it, learned scales (Esser et al. 2020, "Learned Step Size Quantization"). Then the weights are
stored as the integers that they were rounded to in training. Training starts from the calibrated
graph and keeps the best state, so that the result is never worse than static quantization.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import onnx_ir as ir
import torch

from app.domain.steps import Quantize
from workers.compression.executor import Executor
from workers.compression.graph.editor import constant
from workers.compression.learning.recovery import Demands, recover
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.quantize import integers
from workers.compression.methods.quantize.calibrated import calibrate_best
from workers.compression.methods.quantize.integers import SMALLEST_SCALE, Grid
from workers.compression.methods.quantize.layers import select
from workers.compression.methods.quantize.pairs import (
    Site,
    coarsest,
    covers,
    runnable,
    site_of,
    stored_grid,
    write_pairs,
    write_quantized,
)
from workers.compression.methods.quantize.writer import Writer
from workers.compression.progress import span
from workers.compression.samples.context import Context

_CALIBRATION = 0.1
"""The share of the progress that is calibration; the rest is training."""


def quantize_aware(
    model: ir.Model, parameters: Quantize, context: Context, advance: Callable[[float], None]
) -> Outcome:
    """Calibrate a graph, train it with fake quantization, and store its weights as integers.

    Returns:
        The quantized graph. If no layer can be quantized: the graph as it is, not trained.

    Raises:
        StepFailed: there is no data, nothing to train, or the opset is too old.
    """
    calibrated = calibrate_best(model, parameters, context, span(advance, 0, _CALIBRATION))
    model, parameters, grids, sites = (
        calibrated.model,
        calibrated.parameters,
        calibrated.grids,
        calibrated.sites(),
    )
    if not any(_is_ready(site, grids) for site in sites):
        return calibrated.writer()({})
    weights = {str(s.layer.weight.name): stored_grid(s, parameters, grids) for s in sites}
    trained, scales = _trainable(model, parameters, grids, weights)
    recover(
        trained,
        parameters.recovery,
        context,
        span(advance, _CALIBRATION, 1),
        Demands(
            constrain=_Levels(parameters.weights, weights, scales, _ceilings(sites, grids)),
            rates=_rates(trained, scales) if parameters.learn_steps else {},
        ),
    )
    trained_initializers = trained.graph.initializers
    learned_grids = {
        name: replace(
            grid, scale=constant(trained_initializers[scales[name]]).reshape(grid.scale.shape)
        )
        for name, grid in {**grids, **weights}.items()
        if name in scales
    }
    for name, value in model.graph.initializers.items():
        if (new := trained.graph.initializers.get(name)) is not None:
            value.const_value = new.const_value
    write = partial(
        write_quantized,
        model,
        parameters,
        learned_grids,
        weights=learned_grids,
        smoothed=calibrated.smoothed,
    )
    return runnable(write, parameters)({})


def _trainable(
    model: ir.Model,
    parameters: Quantize,
    grids: Mapping[str, Grid],
    weights: Mapping[str, Grid],
) -> tuple[ir.Model, dict[str, str]]:
    """Return the graph to train, and the names of the initializers that hold the scales."""
    copy = model.clone()
    writer = Writer(copy, parameters.activations)
    sites = [site_of(layer, parameters) for layer in select(copy, parameters)[0]]
    ready = [site for site in sites if _is_ready(site, grids)]
    for weight in dict.fromkeys(site.layer.weight for site in ready):
        writer.quantize_input(weight, weights[str(weight.name)], None)
    write_pairs(writer, ready, {v: grids[str(v.name)] for v in _values(ready)})
    writer.edit.remove_unused()
    return copy, writer.scales


def _is_ready(site: Site, grids: Mapping[str, Grid]) -> bool:
    """Return whether each value of a site has a grid: it has none if it was not finite on data."""
    return all(str(value.name) in grids for value in site.values)


def _values(sites: Sequence[Site]) -> dict[ir.Value, None]:
    return dict.fromkeys(value for site in sites for value in site.values)


def _rates(model: ir.Model, scales: Mapping[str, str]) -> dict[str, float]:
    """Return factors of the scales' learning rates: a step changes a scale relative to its size."""
    initializers = model.graph.initializers
    return {name: float(constant(initializers[name]).mean()) for name in scales.values()}


def _ceilings(sites: Sequence[Site], grids: Mapping[str, Grid]) -> dict[str, float]:
    """Return the largest scales of outputs whose grids replace a Relu or Clip, by name."""
    ceilings = {}
    for tail in (site.tail for site in sites if site.tail is not None):
        clip, grid = tail.producer(), grids.get(str(tail.name))
        if clip is not None and grid is not None and covers(clip, grid):
            ceilings[str(tail.name)] = coarsest(clip, grid)
    return ceilings


class _Levels:
    """A training constraint: weights stay within their integer levels, and scales positive.

    Args:
        dtype: the type of the weights.
        weights: the grids of the weights, by name.
        scales: the initializers of the scales, by the names of the values.
        ceilings: the largest scales, by the names of the values.
    """

    def __init__(
        self,
        dtype: str,
        weights: Mapping[str, Grid],
        scales: Mapping[str, str],
        ceilings: Mapping[str, float],
    ) -> None:
        self._top = integers.top_level(dtype)
        self._weights = {name: grid.axis for name, grid in weights.items() if name in scales}
        self._scales = scales
        self._ceilings = ceilings

    def __call__(self, executor: Executor, _done: float) -> None:
        """Clamp the scales and the weights."""
        for value, scale in self._scales.items():
            if scale not in executor.names:
                continue  # the value is computed from sizes alone, and its scale is bound
            executor.weight(scale).data.clamp_(SMALLEST_SCALE, self._ceilings.get(value))
        for name, axis in self._weights.items():
            weight = executor.weight(name).data
            reach = self._top * executor.weight(self._scales[name]).data
            if axis is not None:
                reach = reach.reshape([-1 if a == axis else 1 for a in range(weight.ndim)])
            torch.clamp(weight, min=-reach, max=reach, out=weight)
