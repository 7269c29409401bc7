"""Samples for a model without a dataset: seeded random inputs that it accepts."""

from collections.abc import Iterator, Mapping

import numpy as np
import onnx_ir as ir

from app.domain.datasets import sample_axes
from workers.compression.graph.equivalence import Trial
from workers.compression.graph.trials import random_feeds
from workers.compression.samples.axis import (
    Dimensions,
    Run,
    dimensions,
    first_that_holds,
    layouts,
    sample_dimensions,
)
from workers.compression.samples.context import Feeds, Samples
from workers.compression.samples.layout import Layout, whole

_ANY = "any"
"""A size."""


def find_layout(model: ir.Model, run: Run, trial: Trial, seed: int = 0) -> Layout:
    """Find the layout of samples in inputs that a model accepts; see ``axis.find``.

    Args:
        model: the graph.
        run: runs the graph.
        trial: inputs that it accepts.
        seed: seed of the random values.

    Returns:
        The layout; one sample in a run, where the model accepts nothing but the trial.
    """
    declared = dimensions(model)
    likely = list(_layouts(declared))
    candidates = (draw(model, layout, trial, 2 * layout.size, seed) for layout in likely)
    try:
        return first_that_holds(model, run, candidates)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 (each runtime has classes of its own)
        return whole(declared)


def draw(model: ir.Model, layout: Layout, trial: Trial, count: int, seed: int) -> Samples:
    """Draw inputs of the sizes that a model accepts, as samples.

    Args:
        model: the graph.
        layout: the layout of samples in its inputs. An input without an axis of samples is the
            same for all samples. If no input has such an axis, a sample is all that a run reads.
        trial: inputs that it accepts.
        count: the approximate number of samples.
        seed: seed of the random values.
    """
    sizes = dict(trial.sizes) | dict.fromkeys(
        sample_dimensions(model, layout) & set(trial.sizes), 1
    )
    runs = -(-count // layout.size)
    drawn = [
        random_feeds(model, sizes, seed + index, trial.ends) | _switches(trial)
        for index in range(runs)
    ]
    one_by_one = all(axis is None for axis in layout.inputs.values())
    arrays = {}
    for name, axis in layout.inputs.items():
        if axis is not None:
            arrays[name] = np.concatenate([np.moveaxis(feeds[name], axis, 0) for feeds in drawn])
        else:
            per_run = [feeds[name] if one_by_one else drawn[0][name] for feeds in drawn]
            arrays[name] = np.stack(per_run).repeat(1 if one_by_one else layout.size, 0)
    return Samples(arrays, None, range(runs * layout.size), layout)


def _layouts(declared: Mapping[str, Dimensions]) -> Iterator[Layout]:
    """Yield the possible layouts.

    An input without the dimension that counts samples has its samples along a dynamic first
    dimension, or is the same for all samples.
    """
    axes = {name: sample_axes([_ANY] * (len(dims) - 1), dims) for name, dims in declared.items()}
    shared = {name: [None, *axes_of_input] for name, axes_of_input in axes.items()}
    dynamic = {
        name: [*axes_of_input, None]
        if isinstance(next(iter(declared[name]), None), str)
        else shared[name]
        for name, axes_of_input in axes.items()
    }
    for allowed in (dynamic, shared):
        yield from layouts(declared, allowed, lambda _name: True)


def _switches(trial: Trial) -> Feeds:
    """Return the inputs that are a single integer: a model may accept no other value."""
    return {n: a for n, a in trial.feeds.items() if a.size == 1 and a.dtype.kind in "iu"}
