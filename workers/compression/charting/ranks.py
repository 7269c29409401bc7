"""Layers that become a product of thinner ones."""

from functools import cached_property

from app.domain.sensitivity import Form
from app.domain.steps import LowRank
from workers.compression.charting.changes import Change, Refused
from workers.compression.charting.subject import Subject, reasons_of
from workers.compression.methods.low_rank import budget
from workers.compression.methods.low_rank.candidates import candidates
from workers.compression.methods.low_rank.decompositions import ChannelMoments
from workers.compression.methods.low_rank.layers import LowRankLayer, select
from workers.compression.methods.low_rank.moments import collect

_SAMPLES = 64
"""The number of samples that activations are weighed on."""

_FLOAT_BYTES = 4


class Ranks:
    """Layers of a lower rank; the moments of activations are collected once.

    Args:
        subject: the graph.
    """

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        layers, skipped = select(
            subject.model, LowRank(), subject.survey.sample, subject.context.layout.size
        )
        self._layers = {layer.name: layer for layer in layers}
        self._reasons = reasons_of(skipped)

    @cached_property
    def _moments(self) -> dict[str, ChannelMoments]:
        context = self._subject.context
        samples = self._subject.samples.draw(_SAMPLES, context.seed)
        layers: list[LowRankLayer] = list(self._layers.values())
        return collect(self._subject.model, layers, samples, context.threads, lambda _done: None)

    def change(self, form: Form, name: str) -> Change | Refused:
        """Return the graph with one layer factorised."""
        subject, layer = self._subject, self._layers.get(name)
        if layer is None:
            return Refused(self._reasons.get(name, "it is not factorised"))
        found = candidates(layer, LowRank(energy=form.value), self._moments.get(name))
        if not found:
            return Refused("no ranks of so much energy need fewer multiplications")
        chosen = min(found, key=lambda candidate: candidate.macs)
        model = subject.model.clone()
        budget.write(model, [layer], [chosen])
        before, after = (
            budget.time_of(layer, candidate, subject.times) for candidate in (None, chosen)
        )
        fewer_bytes = _FLOAT_BYTES * (layer.weight.size - chosen.parameters)
        saved = subject.saved(fewer_bytes, layer.macs - chosen.macs, before, after)
        return Change(model, saved, ("rank", form.value, name))
