"""Finds inputs that a graph runs on: seeded random ones, and its outputs for them.

Only the types and shapes of the inputs are known, so several sizes and kinds of values are tried.
Those that the graph accepts become trials.
"""

import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from app.domain.problems import InvalidModel
from workers.compression.graph.chosen_rows import integer_ends
from workers.compression.graph.equivalence import Trial, arithmetic_of, difference
from workers.compression.graph.pieces import Run, open_graph
from workers.compression.graph.runtime import Arrays
from workers.compression.graph.shapes import (
    batch_names,
    dimension_names,
    inputs_of,
    sizes_by_weights,
    symbolic,
)
from workers.compression.graph.subgraphs import nodes_of
from workers.compression.graph.sums import with_sums

_IMAGE_SIZES = (224, 64, 32, 48, 128, 320, 16, 8, 1)
_OTHER_SIZES = (128, 64, 32, 16, 8, 4, 2, 1, 512, 256, 384, 576, 1024, 77, 100, 50, 20, 10, 7, 5, 3)
"""Sizes to try, powers of two first; the others may match a size that an exporter fixed."""
_LONG = 16_000
"""The last size to try, of one dimension alone, where no other is accepted: a second of sound, or
what cuts off thousands. An image of this size would take gigabytes, and so would attention."""

_IMAGE_RANK = 4

_MOST_SWITCHES = 4

_LOOP_SECONDS, _RUN_SECONDS = 8, 5
"""Seconds for finding inputs of a graph with loops, and for one run of it."""

_INTEGER_BOUNDS = (100, 2, 1)
"""Integers of which the graph tells nothing are drawn below these: ids first, then masks, then
zeros."""
_BYTES = 256


def find_trials(
    model: ir.Model, path: Path, seed: int = 0, counting: Collection[str] | None = None
) -> list[Trial]:
    """Return inputs that a graph runs on, with its outputs; the first has a batch of 1.

    Args:
        model: the reference graph.
        path: the file of the reference.
        seed: seed of the random values.
        counting: names of the dynamic dimensions that count samples; by default the first
            dimension of each input.

    Returns:
        Up to three trials: one sample; two samples; other sizes of the other dynamic dimensions.
        Empty when the graph accepts none, or answers differently each time.
    """
    return trials_of(open_graph(path, len(model.graph)), model, seed, counting)


def trials_of(
    run: Run, model: ir.Model, seed: int = 0, counting: Collection[str] | None = None
) -> list[Trial]:
    """Return the trials of a graph that is open already; see ``find_trials``."""
    trials: list[Trial] = []
    try:
        for trial in _accepted(run, model, seed, counting):
            trials.append(trial)  # noqa: PERF402 (those that were found before time ran out count)
    except TimeoutError:
        if not trials:
            raise InvalidModel(
                f"The model did not answer within {_RUN_SECONDS} seconds: a Loop in it goes on for"
                " too long on the random inputs that were tried. Give the Loop a smaller trip"
                " count, or a condition that ends it, and upload the model again."
            ) from None
    if not trials:
        return []
    again = run(trials[0].feeds, None)
    if difference(trials[0].outputs, again) is not None:
        return []
    return [replace(trial, arithmetic=arithmetic_of(model)) for trial in trials]


def _accepted(
    run: Run, model: ir.Model, seed: int, counting: Collection[str] | None
) -> Iterator[Trial]:
    """Yield up to three trials: one sample at two sizes, and two samples.

    Raises:
        TimeoutError: the graph has loops, and they run for too long.
    """
    patience = _Patience() if _loops(model) else None
    tried: list[Mapping[str, int]] = []
    counted = batch_names(model) if counting is None else set(counting)
    for batch in (1, 2):
        for sizes in _assignments(model, batch, counted):
            if sizes in tried or (_is_long(sizes) and not all(map(_is_long, tried))):
                continue
            trial = _try(run, model, sizes, seed + len(tried), patience)
            if trial is None:
                continue
            tried.append(sizes)
            yield trial
            if batch == 2 or len(tried) == 2:
                break
        if not tried:
            if patience is not None and patience.was_stopped:
                raise TimeoutError
            return


def _is_long(sizes: Mapping[str, int]) -> bool:
    return _LONG in sizes.values()


class _Patience:
    """The time left for finding inputs of a graph with loops, which may never end.

    Attributes:
        was_stopped: a run had to be stopped, which says nothing against its inputs.
    """

    def __init__(self) -> None:
        self._end = time.monotonic() + _LOOP_SECONDS
        self.was_stopped = False

    def seconds(self) -> float:
        """Return how long the next run may take.

        Raises:
            TimeoutError: no time is left.
        """
        remaining = self._end - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        return min(remaining, _RUN_SECONDS)


def _loops(model: ir.Model) -> bool:
    return any(node.op_type == "Loop" for node in nodes_of(model))


def random_feeds(
    model: ir.Model, sizes: Mapping[str, int], seed: int, ends: Mapping[str, int]
) -> Arrays:
    """Draw an array for each input: floats from a standard normal, integers from a range.

    Args:
        model: the graph whose inputs to draw.
        sizes: sizes of the dynamic dimensions, by the names that ``shapes.dimension_names`` gives.
        seed: the same seed gives the same arrays.
        ends: what the integers of each input are below; zeros where none is named.
    """
    generator = np.random.default_rng(seed)
    feeds = {}
    for value in inputs_of(model):
        shape = [
            size if isinstance(size, int) else sizes[name]
            for size, name in zip(value.shape or (), dimension_names(value), strict=True)
        ]
        dtype = value.dtype or ir.DataType.FLOAT
        feeds[str(value.name)] = _draw(generator, dtype, shape, ends.get(str(value.name), 1))
    return feeds


def _draw(
    generator: np.random.Generator, dtype: ir.DataType, shape: list[int], end: int
) -> NDArray[Any]:
    if dtype == ir.DataType.STRING:
        return np.full(shape, "a", dtype=object)
    if dtype == ir.DataType.BOOL:
        return generator.integers(0, 2, shape).astype(np.bool_)
    if dtype.is_floating_point():
        return generator.standard_normal(shape, dtype=np.float32).astype(dtype.numpy())
    return generator.integers(0, end, shape).astype(dtype.numpy())


def _assignments(model: ir.Model, batch: int, batches: Collection[str]) -> Iterator[dict[str, int]]:
    """Yield sizes for the dynamic dimensions, likely ones first; equal names get equal sizes."""
    free_dimensions = [(tensor, name) for tensor, name in symbolic(model) if name not in batches]
    rank = {str(v.name): len(v.shape or ()) for v in inputs_of(model)}
    choices = {
        name: _IMAGE_SIZES if rank[tensor] == _IMAGE_RANK else _OTHER_SIZES
        for tensor, name in free_dimensions
    }
    fixed = sizes_by_weights(model) | dict.fromkeys(batches, batch)
    choices = {name: sizes for name, sizes in choices.items() if name not in fixed}
    states = dict.fromkeys(_states(model) & set(choices), batch)
    for index in range(max((len(sizes) for sizes in choices.values()), default=1)):
        drawn = fixed | {n: sizes[min(index, len(sizes) - 1)] for n, sizes in choices.items()}
        yield with_sums(drawn)
        if states:
            yield with_sums(drawn | states)
    if [*choices.values()] == [_OTHER_SIZES]:
        yield with_sums(fixed | dict.fromkeys(choices, _LONG))


def _states(model: ir.Model) -> set[str]:
    """Return the dimensions that may count samples in states ``[layers, samples, units]``."""
    return {
        dimension_names(value)[1]
        for value in inputs_of(model)
        if value.shape is not None
        and [isinstance(size, int) for size in value.shape] == [True, False, True]
    }


def _try(
    run: Run,
    model: ir.Model,
    sizes: Mapping[str, int],
    seed: int,
    patience: _Patience | None,
) -> Trial | None:
    for ends, feeds in _candidates(model, sizes, seed):
        seconds = None if patience is None else patience.seconds()
        try:
            return Trial(sizes, feeds, run(feeds, seconds), ends)
        except InvalidModel:
            raise
        except TimeoutError:
            if patience is not None:
                patience.was_stopped = True
        except Exception:  # noqa: BLE001, S112 (the next values may be accepted)
            continue
    return None


def _candidates(
    model: ir.Model, sizes: Mapping[str, int], seed: int
) -> Iterator[tuple[dict[str, int], Arrays]]:
    """Yield inputs to try, after what their integers are below.

    First those that the graph tells of, then any, then switches set to constants of Equal nodes.
    What was refused once is not tried again.
    """
    told = integer_ends(model)
    bounds = [_ends(model, bound) for bound in _INTEGER_BOUNDS]
    tried = list[dict[str, int]]()
    for ends in [*(bound | told for bound in bounds), *bounds]:
        if ends not in tried:
            tried.append(ends)
            yield ends, random_feeds(model, sizes, seed, ends)
    feeds = random_feeds(model, sizes, seed, {})
    switches = [name for name, a in feeds.items() if a.size == 1 and a.dtype.kind in "iu"]
    for answer in _compared(model) if switches else ():
        yield {}, feeds | {name: np.full_like(feeds[name], answer) for name in switches}


def _ends(model: ir.Model, bound: int) -> dict[str, int]:
    """Return what the integers of each input are drawn below; bytes take all of their values."""
    return {
        str(value.name): _BYTES if bound > 2 and value.dtype == ir.DataType.UINT8 else bound
        for value in inputs_of(model)
        if value.dtype is not None and value.dtype.is_integer()
    }


def _compared(model: ir.Model) -> list[int]:
    """Return the integer constants that a graph's Equal nodes compare with, largest first."""
    constants = set()
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        for value in node.inputs if node.op_type == "Equal" else ():
            tensor = ir.convenience.get_const_tensor(value) if value is not None else None
            if tensor is not None and tensor.size == 1 and tensor.dtype.is_integer():
                constants.add(int(tensor.numpy().reshape(())))
    return sorted(constants, reverse=True)[:_MOST_SWITCHES]
