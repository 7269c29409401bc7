"""Bits of stored weights, learned in episodes for a share of the bytes that is to go (HAQ).

Each episode chooses float, eight or four bits for the weights of one layer after the other, never
so many that too few bytes could go, and is judged by the outputs on samples, without training (Wang
2019).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx_ir as ir

from app.domain.problems import StepFailed
from app.domain.steps import Quantize
from workers.compression.graph import runtime
from workers.compression.learning.episodes import learned, limits_of, reference_of
from workers.compression.measure.reference import Reference
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.quantize.stored import Storing, weights_in
from workers.compression.samples.context import Context

FORMS = ("int4", "int8", None)
"""The types that weights may be stored in, from the smallest; None leaves them as they are."""

_CHOSEN = "in the trials more bits were worth their bytes here"


def store_learned(
    model: ir.Model, parameters: Quantize, context: Context, advance: Callable[[float], None]
) -> Outcome:
    """Store the weights of each layer in as many bits as episodes learn, within ``ratio``.

    Args:
        model: the graph; not changed.
        parameters: ``ratio`` is the share of the bytes of weights that is to go.
        context: samples to judge on, the seed, the clock.
        advance: called with the fraction done.

    Raises:
        StepFailed: four bits for all weights take more than ``ratio`` leaves.
    """
    assert parameters.ratio is not None, "the caller has looked"
    names = list(dict.fromkeys(use.name for use in weights_in(model, parameters)[0]))
    if not names:
        return Storing(parameters).write(model, {})
    task = _Bits(model, parameters, names, reference_of(model, context))
    if not task.fits([0.0] * len(names)):
        least = 1 - task.bytes_of([0.0] * len(names)) / task.whole
        raise StepFailed(
            f"Four bits for all weights save {least:.0%} of their bytes, less than the"
            f" {parameters.ratio:.0%} that 'ratio' asks for."
        )
    known = [[form / (len(FORMS) - 1)] * len(names) for form in range(len(FORMS))]
    choices, _ = learned(task, known, limits_of(context), context.seed, advance)
    return task.written(choices)


def _place(choice: float) -> int:
    """Return the place among ``FORMS`` that a choice from 0 to 1 stands for."""
    return min(int(choice * len(FORMS)), len(FORMS) - 1)


def _form(choice: float) -> str | None:
    return FORMS[_place(choice)]


@dataclass(frozen=True)
class _Bits:
    """The choice of a form for the weights of each layer, in the graph's order."""

    model: ir.Model
    parameters: Quantize
    names: Sequence[str]
    reference: Reference

    @property
    def layers(self) -> int:
        """The number of layers with weights."""
        return len(self.names)

    @cached_property
    def _storing(self) -> dict[str | None, Storing]:
        """What stores weights in each form."""
        update = self.parameters.model_copy
        return {form: Storing(update(update={"weights": form})) for form in FORMS[:-1]}

    @cached_property
    def _sizes(self) -> dict[str | None, list[int]]:
        """The bytes of each layer's weights in each form."""
        sizes: dict[str | None, list[int]] = {}
        for form in FORMS[:-1]:
            outcome = self._storing[form].write(self.model, {})
            after = dict.fromkeys(self.names, 0)
            before = dict.fromkeys(self.names, 0)
            for layer in outcome.layers:
                after[layer.node] += layer.bytes_after
                before[layer.node] += layer.bytes_before
            sizes[form], sizes[None] = list(after.values()), list(before.values())
        return sizes

    @property
    def whole(self) -> int:
        """The bytes of all weights as they are."""
        return sum(self._sizes[None])

    def bytes_of(self, choices: Sequence[float]) -> int:
        """Return the bytes of the weights in the forms that were chosen."""
        return sum(self._sizes[_form(choice)][layer] for layer, choice in enumerate(choices))

    def fits(self, choices: Sequence[float]) -> bool:
        """Return whether as many bytes are saved as were asked for, if the rest has four bits."""
        assert self.parameters.ratio is not None, "the caller has looked"
        rest = [0.0] * (self.layers - len(choices))
        return self.bytes_of([*choices, *rest]) <= self.whole * (1 - self.parameters.ratio)

    def state(self, layer: int, choices: Sequence[float]) -> list[float]:
        """Return the place, the bytes, what is saved, what is ahead, and the last choice."""
        whole, sizes = self.whole, self._sizes[None]
        return [
            layer / self.layers,
            sizes[layer] / whole,
            (sum(sizes[: len(choices)]) - self.bytes_of(choices)) / whole,
            sum(sizes[layer:]) / whole,
            choices[-1] if choices else 1.0,
        ]

    def allowed(self, layer: int, wanted: float, choices: Sequence[float]) -> float:
        """Return the most bits up to ``wanted`` that leave the bytes within reach."""
        assert layer == len(choices), "layers are chosen in order"
        steps = np.arange(len(FORMS) - 1, -1, -1) / (len(FORMS) - 1)
        possible = [
            float(step)
            for step in steps
            if _place(step) <= _place(wanted) and self.fits([*choices, float(step)])
        ]
        return possible[0] if possible else 0.0

    def written(self, choices: Sequence[float]) -> Outcome:
        """Return the graph with the weights in the forms that were chosen."""
        forms = dict(zip(self.names, map(_form, choices), strict=True))
        kept = {name: _CHOSEN for name, form in forms.items() if form is None}
        outcome = Outcome(self.model.clone())
        for form in FORMS[:-1]:
            others = {name: _CHOSEN for name, each in forms.items() if each != form}
            written = self._storing[form].write(outcome.model, others)
            skipped = [each for each in written.skipped if each.node not in forms]
            outcome = Outcome(written.model, [*outcome.layers, *written.layers], skipped)
        left = [each for each in written.skipped if each.node in kept]
        return Outcome(outcome.model, outcome.layers, [*outcome.skipped, *left])

    def reward(self, choices: Sequence[float]) -> float:
        """Return the share of the outputs' variance that is left."""
        with runtime.in_file(self.written(choices).model) as path:
            return self.reference.explained(path)
