"""Quantization-aware training: what is trained is what is shipped.

The graph gets the pairs of static quantization, its weights stay float behind pairs of their own,
and it is trained as it stands, with straight-through gradients (Bengio et al. 2013) and, where
asked for, learned steps (Esser et al. 2020, "Learned Step Size Quantization"). Then the weights are
stored as the integers that they were rounded to all along. Training starts from the calibrated
graph and keeps the best state, so that it never ends below static quantization.
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
from workers.compression.methods.quantize.integers import SMALLEST_SCALE, Grid
from workers.compression.methods.quantize.layers import select
from workers.compression.methods.quantize.pairs import (
    Site,
    coarsest,
    covers,
    runnable,
    site_of,
    smallest_scale,
    write_pairs,
    write_quantized,
)
from workers.compression.methods.quantize.static import start
from workers.compression.methods.quantize.writer import Writer
from workers.compression.samples.context import Context

_CALIBRATION = 0.1
"""Share of the work."""


def quantize_aware(
    model: ir.Model, parameters: Quantize, context: Context, advance: Callable[[float], None]
) -> Outcome:
    """Calibrate, train through the rounding, and store what was trained.

    Returns:
        The graph as it is, and not trained, where no layer can be quantized.

    Raises:
        StepFailed: there is no data, nothing that can be trained, or too old an opset.
    """
    begun = start(model, parameters, context, lambda fraction: advance(_CALIBRATION * fraction))
    model, parameters, grids, sites = begun.model, begun.parameters, begun.grids, begun.sites()
    if not any(_is_ready(site, grids) for site in sites):
        return begun.writer()({})
    weights = {str(s.layer.weight.name): _weight_grid(s, parameters, grids) for s in sites}
    trained, scales = _trainable(model, parameters, grids, weights)
    recover(
        trained,
        parameters.recovery,
        context,
        lambda fraction: advance(_CALIBRATION + (1 - _CALIBRATION) * fraction),
        Demands(
            constrain=_Levels(parameters.weights, weights, scales, _ceilings(sites, grids)),
            rates=_rates(trained, scales) if parameters.learn_steps else {},
        ),
    )
    steps = trained.graph.initializers
    learned = {
        name: replace(grid, scale=constant(steps[scales[name]]).reshape(grid.scale.shape))
        for name, grid in {**grids, **weights}.items()
        if name in scales
    }
    for name, value in model.graph.initializers.items():
        if (new := trained.graph.initializers.get(name)) is not None:
            value.const_value = new.const_value
    write = partial(
        write_quantized, model, parameters, learned, weights=learned, smoothed=begun.smoothed
    )
    return runnable(write, parameters)({})


def _weight_grid(site: Site, parameters: Quantize, grids: Mapping[str, Grid]) -> Grid:
    """Return the grid that a weight starts from: the one that static quantization gives it."""
    data = site.integers(parameters)
    found = grids.get(str(data.name)) if data is not None else None
    smallest = smallest_scale(site.layer, None if found is None else found.scale)
    return integers.weight_grid(site.layer.weights, parameters.weights, site.layer.axis, smallest)


def _trainable(
    model: ir.Model,
    parameters: Quantize,
    grids: Mapping[str, Grid],
    weights: Mapping[str, Grid],
) -> tuple[ir.Model, dict[str, str]]:
    """Return the graph to train, and which initializer holds the scale of each value."""
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
    """Return whether every value around a layer has a grid: was finite on the data."""
    return all(str(value.name) in grids for value in site.values)


def _values(sites: Sequence[Site]) -> dict[ir.Value, None]:
    return dict.fromkeys(value for site in sites for value in site.values)


def _rates(model: ir.Model, scales: Mapping[str, str]) -> dict[str, float]:
    """Let a scale move by the same share of itself in a step as a weight of size one does."""
    initializers = model.graph.initializers
    return {name: float(constant(initializers[name]).mean()) for name in scales.values()}


def _ceilings(sites: Sequence[Site], grids: Mapping[str, Grid]) -> dict[str, float]:
    """Return how coarse grids may get before they pass the Relu or Clip that they stand for."""
    found = {}
    for tail in (site.tail for site in sites if site.tail is not None):
        cut, grid = tail.producer(), grids.get(str(tail.name))
        if cut is not None and grid is not None and covers(cut, grid):
            found[str(tail.name)] = coarsest(cut, grid)
    return found


class _Levels:
    """Keeps weights within the levels that they may have, and steps positive.

    Args:
        dtype: of the weights.
        weights: their grids, by name.
        scales: the initializers of the scales, by the values' names.
        ceilings: the largest scales, by the values' names.
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
        """Cut off what has left them."""
        for value, scale in self._scales.items():
            if scale not in executor.names:
                continue  # of a value that is computed from sizes alone: it is bound
            executor.weight(scale).data.clamp_(SMALLEST_SCALE, self._ceilings.get(value))
        for name, axis in self._weights.items():
            weight = executor.weight(name).data
            reach = self._top * executor.weight(self._scales[name]).data
            if axis is not None:
                reach = reach.reshape([-1 if a == axis else 1 for a in range(weight.ndim)])
            torch.clamp(weight, min=-reach, max=reach, out=weight)
