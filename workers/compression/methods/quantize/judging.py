"""Judges the quality of graphs against the original, and within which loss they are taken."""

from copy import copy
from dataclasses import dataclass
from functools import cached_property

import onnx_ir as ir

from workers.compression.files import sha256
from workers.compression.graph import runtime
from workers.compression.graph.load import files_of, load
from workers.compression.graph.narrow import narrowed
from workers.compression.measure import quality
from workers.compression.measure.affordable import affordable
from workers.compression.measure.reference import Drop, Reference
from workers.compression.samples.context import Context, Samples

_SHARE = 0.8
"""The share of the job's bound that is used on training samples: held-out ones may drop more."""

_WORK = 3e11
"""Multiply-accumulates that one measurement of quality may take."""
_FEWEST, _MOST = 16, 512
"""The least and the greatest number of samples in a measurement, whatever its work."""

_RANKED = 8
"""The number of samples that layers are ranked on."""


@dataclass(frozen=True)
class _LimitedDrop:
    """The drop of a graph, and the limit up to which it had to be exact."""

    drop: Drop
    limit: float

    def holds_for(self, limit: float) -> bool:
        """Return whether the drop is known exactly enough to be compared with another limit."""
        return self.drop.value <= self.limit or limit <= self.limit


class Judging:
    """Judges graphs on samples; the original runs on them once.

    Args:
        model: the graph before the step.
        samples: the samples that quality is measured on, or more.
        context: the original, the metric, and the job's bound.
        limit: the drop within which a graph is taken; None takes a share of the job's bound.
    """

    def __init__(
        self, model: ir.Model, samples: Samples, context: Context, limit: float | None = None
    ) -> None:
        bound = context.max_quality_drop if limit is None else limit
        assert bound is not None, "without a bound there is nothing to judge"
        self.bound = bound
        """The drop that the job allows."""
        self.limit = _SHARE * bound if limit is None else limit
        """The drop, measured here, within which a graph is taken."""
        self._model, self._samples, self._context = model, samples, context
        self._drops = dict[tuple[float, tuple[str, ...]], Drop]()
        """The drops of the graphs that were judged, by the limit and the digests of their files."""

    def drop(self, model: ir.Model) -> Drop:
        """Return the drop of a graph's quality below the original's, as the verdict counts it.

        The graph runs with its weights as they are stored, in half precision where that is so. One
        that is certain to drop by more than the limit is not run to the end: the drop is then that
        of the samples that it ran on, as it is where the time is used up. The same graph is run
        once.
        """
        with runtime.in_file(narrowed(model)) as path:
            digests = tuple(map(sha256, files_of(path)))
            known = self.limit, digests
            if known not in self._drops:
                limited = self._context.prices.figures(
                    ("drop", digests),
                    _LimitedDrop,
                    lambda: _LimitedDrop(self._bounded.drop(path, self.limit), self.limit),
                    lambda limited: limited.holds_for(self.limit),
                )
                self._drops[known] = limited.drop
            return self._drops[known]

    def leaving(self, loss: float) -> "Judging":
        """Return what takes graphs as long as so much of the limit is left."""
        if not loss:
            return self
        stricter = copy(self)
        stricter.limit -= loss
        return stricter

    def fits(self, model: ir.Model) -> bool:
        """Return whether the drop of a graph is within the limit, its standard error included.

        The best of many graphs is in part the luckiest: without the error, what was chosen would
        lose more than the limit on other samples half of the time.
        """
        return self.drop(model).expected <= self.limit

    @cached_property
    def _bounded(self) -> Reference:
        context, samples = self._context, self._samples
        with runtime.in_file(self._model) as before:
            original = context.original or before
            graph, threads = load(original), context.threads
            judge = quality.judge(graph, samples.targets, context.evaluate, context.metric, threads)
            output = quality.judged_output(graph, context.evaluate)
            count = affordable(self._model, samples, _WORK, _FEWEST, _MOST)
            drawn = samples.draw(count, context.seed)
            return Reference(original, drawn, threads, judge, output, context.has_time)

    def ranking(self, model: ir.Model) -> Reference:
        """Return what a graph answers to a few samples; its layers are ranked by that."""
        few = self._samples.draw(_RANKED, self._context.seed)
        with runtime.in_file(model) as path:
            return Reference(path, few, self._context.threads)


def judging_of(model: ir.Model, samples: Samples | None, context: Context) -> Judging | None:
    """Return what judges graphs where the job bounds their loss and there are samples for it.

    Args:
        model: the graph before the step.
        samples: the samples that quality is measured on, or more; None takes the training split.
        context: the original, the metric, and the job's bound.
    """
    samples = samples or context.train
    if context.max_quality_drop is None or not samples:
        return None
    return Judging(model, samples, context)
