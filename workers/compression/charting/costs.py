"""What a changed graph loses: its outputs beside those of the original, on a few samples."""

from collections.abc import Hashable
from dataclasses import dataclass

import onnx_ir as ir

from workers.compression.charting.changes import Refused
from workers.compression.charting.subject import Subject
from workers.compression.graph import runtime
from workers.compression.measure import quality
from workers.compression.measure.affordable import affordable
from workers.compression.measure.fidelity import Closeness, Profile
from workers.compression.measure.passes import rows
from workers.compression.targets import onnx as target
from workers.compression.targets.runner import Outputs

_WORK = 1e10
"""Multiply-accumulates that one changed graph may take."""
_FEWEST, _MOST = 8, 64
"""The least and the greatest number of samples, whatever their work."""
_BYTES = 1 << 28
"""The most bytes of the original's outputs that are kept."""


@dataclass(frozen=True)
class Cost:
    """What a form of a layer costs in quality."""

    lost: float
    """The share of the variance of the outputs that is lost, 0 to 1."""
    changed: float
    """The share of samples, or positions, whose class changes."""


class Costs:
    """Measures what changed graphs lose.

    Args:
        subject: the graph, and the samples that it may run on.

    Attributes:
        samples: how many samples each graph runs on.
        answers_tell: whether the judged output holds class scores or labels, which vary.
    """

    samples: int
    answers_tell: bool

    def __init__(self, subject: Subject) -> None:
        self._threads = subject.context.threads
        self._output = quality.judged_output(subject.model, subject.context.evaluate)
        count = affordable(subject.model, subject.samples, _WORK, _FEWEST, _MOST)
        drawn = subject.samples.draw(count, subject.context.seed)
        session = runtime.session_of(subject.model, optimize=True, threads=self._threads)
        self._profile = Profile()
        self._expected = list[Outputs]()
        kept = 0
        for _, outputs in rows(session, drawn):
            self._expected.append(outputs)
            self._profile.add(outputs[self._output])
            kept += sum(getattr(array, "nbytes", 0) for array in outputs.values())
            if kept > _BYTES:
                break
        self._samples = drawn.take(drawn.indices[: len(self._expected)])
        self.samples, self.answers_tell = len(self._expected), self._profile.answers_tell
        self._seen: dict[Hashable, Cost | Refused] = {}

    def of(self, model: ir.Model, key: Hashable) -> Cost | Refused:
        """Return what a changed graph loses; graphs of one key run once."""
        if key not in self._seen:
            self._seen[key] = self._measured(model)
        return self._seen[key]

    def _measured(self, model: ir.Model) -> Cost | Refused:
        closeness = Closeness(self._output, self._profile)
        try:
            session = runtime.session_of(model, optimize=True, threads=self._threads)
            for expected, (_, given) in zip(
                self._expected, rows(session, self._samples), strict=True
            ):
                closeness.add(expected, given)
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 (onnxruntime has one class for each status code)
            return Refused(f"onnxruntime {target.VERSION} does not run it in this form")
        return Cost(closeness.lost, 1 - closeness.value.agreement)
