"""Keeps the quality of a calibrated graph: biases are corrected, and rounding is learned.

Each is kept if it brings the outputs nearer to those of the float graph, on samples that were not
used for calibration. Parameters may also ask for it, or refuse it; then nothing is compared.
"""

from collections.abc import Mapping
from dataclasses import replace

from workers.compression.methods.quantize.bias import mean_errors
from workers.compression.methods.quantize.calibrated import Calibrated, measured
from workers.compression.methods.quantize.comparison import few_samples, is_nearer, went
from workers.compression.methods.quantize.integers import Floats
from workers.compression.methods.quantize.levels import Levels
from workers.compression.methods.quantize.pairs import Site, stored_grid
from workers.compression.methods.quantize.rounding import Rounding, is_learnable, learned_weights
from workers.compression.samples.context import Context


def with_corrected_biases(calibrated: Calibrated, context: Context) -> Calibrated:
    """Correct biases by the mean errors of the layers, where that brings the outputs nearer."""
    parameters = calibrated.parameters
    rounds_activations = bool(calibrated.grids)
    if parameters.correct_bias is False or not rounds_activations or not context.has_time():
        return calibrated
    shifts = _shifts(calibrated, context)
    if not shifts:
        return calibrated
    corrected = replace(calibrated, shifts=shifts, nearness=None)
    if parameters.correct_bias:
        return _noted(corrected, f"Biases corrected: {len(shifts)}.")
    how = f"Biases corrected by the mean errors of {len(shifts)} layers"
    return _nearer(calibrated, corrected, how, context)


def with_learned_rounding(calibrated: Calibrated, context: Context) -> Calibrated:
    """Learn how weights are rounded, where that brings the outputs nearer.

    Biases that were corrected are corrected anew.
    """
    parameters = calibrated.parameters
    if parameters.learn_rounding is False or not context.train or not context.has_time():
        return calibrated
    layers = [_rounding(site, calibrated) for site in calibrated.sites() if _fits(site, calibrated)]
    samples = few_samples(calibrated.model, parameters, context)
    rounded = learned_weights(calibrated.model, layers, samples, context)
    if not rounded:
        return calibrated
    learned = replace(calibrated, rounded=rounded, nearness=None)
    if calibrated.shifts:
        learned = replace(learned, shifts=_shifts(learned, context))
    if parameters.learn_rounding:
        return _noted(learned, f"Layers whose rounding was learned: {len(rounded)}.")
    how = f"The rounding of {len(rounded)} layers' weights was learned"
    return _nearer(calibrated, learned, how, context)


def _shifts(calibrated: Calibrated, context: Context) -> Mapping[str, Floats]:
    """Return what makes up for the mean errors of layers, by the layer's name."""
    errors = mean_errors(
        calibrated.model,
        calibrated.sites(),
        calibrated.grids,
        calibrated.parameters,
        calibrated.rounded,
        few_samples(calibrated.model, calibrated.parameters, context),
        context.threads,
    )
    return {name: -error for name, error in errors.items()}


def _fits(site: Site, calibrated: Calibrated) -> bool:
    """Return whether the rounding of a layer can be learned."""
    known = site.data is None or str(site.data.name) in calibrated.grids
    return known and is_learnable(site.layer.node, site.layer.weight, calibrated.model)


def _rounding(site: Site, calibrated: Calibrated) -> Rounding:
    """Return a layer with the grid that its weights are rounded to."""
    layer, parameters = site.layer, calibrated.parameters
    data = None if site.data is None else calibrated.grids[str(site.data.name)]
    grid = stored_grid(site, parameters, calibrated.grids)
    step, zero = grid.reshaped(layer.weights.ndim)
    least, most = (end - int(zero.flat[0]) for end in grid.limits)
    centred = str(layer.node.name) in calibrated.shifts
    levels = Levels.grid(step, least, most)
    return Rounding(layer.node, layer.weights, levels, data, centred)


def _nearer(before: Calibrated, after: Calibrated, how: str, context: Context) -> Calibrated:
    """Return the corrected graph, with a note, if its outputs are nearer; else the one before."""
    before, after = measured(before.model, [before, after], context, lambda _: None)
    old, new = before.nearness, after.nearness
    assert old is not None
    assert new is not None, "each of two is measured"
    return _noted(after, f"{how}: {went(old, new)}") if is_nearer(old, new) else before


def _noted(calibrated: Calibrated, note: str) -> Calibrated:
    return replace(calibrated, notes=(*calibrated.notes, note))
