"""Samples for a model without a dataset: seeded random inputs that it accepts."""

from collections.abc import Iterator, Mapping

import numpy as np
import onnx_ir as ir

from app.domain.datasets import sample_axes
from workers.compression.graph.equivalence import Trial, random_feeds
from workers.compression.samples.axis import (
    Dimensions,
    Run,
    counting,
    dimensions,
    first_that_holds,
    layouts,
)
from workers.compression.samples.context import Feeds, Samples
from workers.compression.samples.layout import Layout, whole

_ANY = "any"
"""A size."""


def find_layout(model: ir.Model, run: Run, trial: Trial, seed: int = 0) -> Layout:
    """Find out how samples stand in inputs that a model accepts; see ``axis.find``.

    Args:
        model: the graph.
        run: runs it.
        trial: inputs that it accepts.
        seed: of the random values.

    Returns:
        One sample a run, where the model accepts nothing but the trial.
    """
    declared = dimensions(model)
    likely = list(_layouts(declared))
    tries = (draw(model, layout, trial, 2 * layout.size, seed) for layout in likely)
    try:
        return first_that_holds(model, run, tries)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 (each runtime has classes of its own)
        return whole(declared)


def draw(model: ir.Model, layout: Layout, trial: Trial, count: int, seed: int) -> Samples:
    """Draw inputs of the sizes that a model accepts, as samples.

    Args:
        model: the graph.
        layout: how samples stand in its inputs. What an input without an axis of samples reads is
            the same for all, unless no input has one: then each sample is all that a run reads.
        trial: inputs that it accepts.
        count: of samples, about.
        seed: of the random values.
    """
    sizes = dict(trial.sizes) | dict.fromkeys(counting(model, layout) & set(trial.sizes), 1)
    bound = _bound(trial)
    runs = -(-count // layout.size)
    drawn = [
        random_feeds(model, sizes, seed + index, bound) | _switches(trial) for index in range(runs)
    ]
    apart = all(axis is None for axis in layout.inputs.values())
    arrays = {}
    for name, axis in layout.inputs.items():
        if axis is not None:
            arrays[name] = np.concatenate([np.moveaxis(feeds[name], axis, 0) for feeds in drawn])
        else:
            same = [feeds[name] if apart else drawn[0][name] for feeds in drawn]
            arrays[name] = np.stack(same).repeat(1 if apart else layout.size, 0)
    return Samples(arrays, None, range(runs * layout.size), layout)


def _layouts(declared: Mapping[str, Dimensions]) -> Iterator[Layout]:
    """Yield layouts to try.

    An input without the dimension that counts samples does so along its first one where that is
    dynamic, or reads the same of all.
    """
    axes = {name: sample_axes([_ANY] * (len(dims) - 1), dims) for name, dims in declared.items()}
    alike = {name: [None, *each] for name, each in axes.items()}
    dynamic = {
        name: [*each, None] if isinstance(next(iter(declared[name]), None), str) else alike[name]
        for name, each in axes.items()
    }
    for allowed in (dynamic, alike):
        yield from layouts(declared, allowed, lambda _name: True)


def _switches(trial: Trial) -> Feeds:
    """Return the single integers of a trial: a model may not accept others."""
    return {n: a for n, a in trial.feeds.items() if a.size == 1 and a.dtype.kind in "iu"}


def _bound(trial: Trial) -> int:
    """Return an exclusive upper bound of the integers that the model accepted."""
    greatest = [int(a.max()) for a in trial.feeds.values() if a.dtype.kind in "iu" and a.size]
    return max(greatest, default=1) + 1
