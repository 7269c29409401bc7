"""Trains a source of samples against a teacher."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workers.compression.learning.feed import Batch, Feed, Forward, Outputs
from workers.compression.learning.generation.objective import Objective
from workers.compression.learning.generation.sources import Network, Pixels, Source
from workers.compression.learning.plan import Minutes
from workers.compression.progress import Advance
from workers.compression.samples import declared
from workers.compression.samples.declared import Floats

BATCH, _FIXED = 64, 16
"""Samples that are made together, at most: of a graph that takes any number, and of others."""
LEAST = 32
"""Samples that are made whatever time they take."""
_KEPT_FROM = 0.3
"""The share of a network's training, or of its time, from which samples are kept.

They are taken all along, because what a network makes in the end is alike (the memory bank of Fang
et al. 2021)."""


@dataclass(frozen=True)
class Teacher:
    """The graph that samples are made for.

    Attributes:
        forward: runs it; gives its outputs, and the values that the objective looks at.
        feed: samples as the graph declares them, in runs that it takes.
        made: what is known of each input that is made; the others stay as they are.
        objective: what the samples minimise.
    """

    forward: Forward
    feed: Feed
    made: Mapping[str, Floats]
    objective: Objective

    def loss(self, standard: Mapping[str, Tensor], rows: Sequence[int]) -> Tensor:
        """Return the objective of samples of mean 0 and variance 1, ``[samples, …]``.

        Args:
            standard: of each input that is made.
            rows: of the declared samples, for the other inputs.
        """
        return self.objective.loss(self._outputs(standard, rows), standard)

    def _outputs(self, standard: Mapping[str, Tensor], rows: Sequence[int]) -> Outputs:
        """Return what the graph gives, and the values that the objective looks at."""
        values = {name: self.numbers(name, each) for name, each in standard.items()}
        runs, start = list[Outputs](), 0
        for part in self.feed.parts(rows):
            batch = self.feed.batch(part)
            mine = {name: each[start : start + len(part)] for name, each in values.items()}
            runs.append(self.feed.outputs(self.forward, self._with(batch, mine)))
            start += len(part)
        return {name: torch.cat([run[name] for run in runs]) for name in runs[0]}

    def can_be_asked(self) -> bool:
        """Return whether a gradient reaches every input that is made."""
        rows = self.feed.samples.indices[: self.batch]
        standard = {
            name: torch.zeros(len(rows), *self.shape(name), device=self.feed.device)
            for name in self.made
        }
        for each in standard.values():
            each.requires_grad_()
        loss = self.objective.misfit(self._outputs(standard, rows))
        if not loss.requires_grad:
            return False
        loss.backward()  # type: ignore[no-untyped-call]
        return all(each.grad is not None and bool(each.grad.any()) for each in standard.values())

    @property
    def batch(self) -> int:
        """How many samples are made together: their moments are compared with real data's."""
        if self.feed.fixed:
            return self.feed.size * max(_FIXED // self.feed.size, 1)
        return min(BATCH, self.feed.size, len(self.feed.samples))

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of one sample of an input."""
        return tuple(self.feed.samples.arrays[name].shape[1:])

    def numbers(self, name: str, standard: Tensor) -> Tensor:
        """Return an input's samples in its own units."""
        known = self.made[name]
        mean, deviation = (
            torch.as_tensor(each, dtype=torch.float32, device=standard.device)
            for each in (known.mean, known.deviation)
        )
        return (mean + deviation * standard).clamp(known.low, known.high)

    def _with(self, batch: Batch, made: Mapping[str, Tensor]) -> Batch:
        """Return a run with made samples, filled up with the last where it takes just so many."""
        feeds = dict(batch.feeds)
        for name, value in made.items():
            axis = self.feed.samples.layout.inputs.get(name, 0)
            assert axis is not None, "an input without an axis of samples is not made"
            missing = batch.feeds[name].shape[axis] - len(value)
            filled = torch.cat([value, value[-1:].expand(missing, *value.shape[1:])])
            feeds[name] = filled.movedim(0, axis).to(batch.feeds[name].dtype)
        return replace(batch, feeds=feeds)


Arrays = dict[str, NDArray[np.float32]]
"""Samples ``[samples, …]`` of each input that is made."""


def by_pixels(
    teacher: Teacher, steps: int, minutes: Minutes, seed: int, advance: Advance
) -> Arrays:
    """Return samples each of whose numbers was trained: batch by batch, from smooth noise.

    They are as many as the teacher has declared samples. Where time runs out there are fewer, and
    the last ones of the least number are noise.

    Args:
        teacher: the graph that the samples are for.
        steps: of the training of each batch.
        minutes: the budget.
        seed: of the noise.
        advance: receives the fraction done: of the steps, or of the time where that ends first.
    """
    count = len(teacher.feed.samples)
    made = list[dict[str, Tensor]]()
    batches = -(-count // teacher.batch)
    for index in range(batches):
        random = np.random.default_rng([seed, index])
        noise = {
            name: declared.noise((teacher.batch, *teacher.shape(name)), random)
            for name in teacher.made
        }
        device = teacher.feed.device
        source = Pixels({name: torch.from_numpy(each).to(device) for name, each in noise.items()})
        for step, _ in _train(source, teacher, steps, minutes, seed + index):
            advance(max((index + step / steps) / batches, minutes.share))
        made.append(_numbers(teacher, source.make(teacher.batch, torch.Generator())))
        if minutes.left <= 0 and len(made) * teacher.batch >= LEAST:
            break
    return _joined(made, count)


def by_network(
    teacher: Teacher, steps: int, minutes: Minutes, seed: int, advance: Advance
) -> Arrays:
    """Return samples of a network that was trained against the teacher; see ``by_pixels``."""
    shapes = {name: teacher.shape(name) for name in teacher.made}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # the first weights
        source = Network(shapes, teacher.feed.device)
    random = torch.Generator().manual_seed(seed)
    count, kept = len(teacher.feed.samples), 0
    made = list[dict[str, Tensor]]()
    for step, samples in _train(source, teacher, steps, minutes, seed):
        done = max(step / steps, minutes.share)
        advance(done)
        due = round(count * (done - _KEPT_FROM) / (1 - _KEPT_FROM)) - kept
        if due > 0:
            made.append(_numbers(teacher, samples, due))
            kept += min(due, teacher.batch)
    while kept < count:
        made.append(_numbers(teacher, source.make(teacher.batch, random)))
        kept += teacher.batch
    return _joined(made, count)


def _train(
    source: Source, teacher: Teacher, steps: int, minutes: Minutes, seed: int
) -> Iterator[tuple[int, Mapping[str, Tensor]]]:
    """Train a source; yield the number of each step that is done, and the samples it began with.

    It ends early where time runs out, or where a loss is not a number.
    """
    optimizer = torch.optim.Adam(source.parameters(), source.rate)
    random = torch.Generator().manual_seed(seed)
    rows = list(teacher.feed.samples.indices[: teacher.batch])
    rows = (rows * teacher.batch)[: teacher.batch]
    for step in range(1, steps + 1):
        optimizer.zero_grad(set_to_none=True)
        samples = source.make(teacher.batch, random)
        loss = teacher.loss(samples, rows)
        if not bool(torch.isfinite(loss)):
            return
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        yield step, samples
        if minutes.left <= 0:
            return


@torch.no_grad()
def _numbers(
    teacher: Teacher, standard: Mapping[str, Tensor], count: int = BATCH
) -> dict[str, Tensor]:
    """Return the first ``count`` samples in their own units, on the CPU."""
    return {
        name: teacher.numbers(name, each[:count]).cpu().clone() for name, each in standard.items()
    }


def _joined(parts: Sequence[Mapping[str, Tensor]], count: int) -> Arrays:
    return {name: torch.cat([part[name] for part in parts])[:count].numpy() for name in parts[0]}
