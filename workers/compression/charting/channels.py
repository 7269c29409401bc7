"""Layers that keep a share of their channels; what is coupled to them is cut with them."""

from collections.abc import Sequence
from functools import cached_property

import onnx_ir as ir

from app.domain.sensitivity import Form, Saved
from app.domain.steps import Prune
from workers.compression.charting.changes import Change, Refused
from workers.compression.charting.subject import Subject, reasons_of
from workers.compression.graph.operators import channel_axis, is_layer, operand
from workers.compression.methods.prune.allocate import OrderedGroup, ordered_groups
from workers.compression.methods.prune.channels import unsound_groups
from workers.compression.methods.prune.costs import Cost, cost_of, shape_left
from workers.compression.methods.prune.criteria import ChannelSources, score_channels
from workers.compression.methods.prune.cut import cut
from workers.compression.methods.prune.groups import Place, Removed

_WHOLE = "its channels can only be cut all together"


_CHECKED = 0.5
"""The share of channels that is kept where cuts are verified."""


class Channels:
    """Layers with fewer channels; channels are scored once, by the criterion of a job.

    Args:
        subject: the graph.
    """

    def __init__(self, subject: Subject) -> None:
        self._subject = subject

    @cached_property
    def _groups(self) -> Sequence[OrderedGroup]:
        """The groups of coupled channels that can be cut, the least important channels first."""
        subject = self._subject
        if not subject.analysis.groups:
            return []
        sources = ChannelSources(
            subject.model, subject.analysis, Prune(), subject.context, lambda _done: None
        )
        groups = ordered_groups(subject.analysis, score_channels(sources))
        removed = _removed(subject, groups, _CHECKED)
        unsound = unsound_groups(subject.model, subject.analysis, removed, subject.survey)
        places = {group.places for group, _ in unsound}
        return [group for group in groups if group.group.places not in places]

    @cached_property
    def _macs(self) -> Cost:
        subject = self._subject
        return cost_of("macs", subject.model, subject.analysis, subject.survey.sample)

    @cached_property
    def _bytes(self) -> Cost:
        subject = self._subject
        return cost_of("size", subject.model, subject.analysis, subject.survey.sample)

    def change(self, form: Form, name: str) -> Change | Refused:
        """Return the graph in which a layer, and what is coupled to it, has fewer channels."""
        subject, analysis = self._subject, self._subject.analysis
        node = subject.nodes[name]
        weight = operand(node, 1) if is_layer(node) else None
        if weight is None or weight.shape is None:
            return Refused(f"the channels of {node.op_type} are not cut")
        place = Place(str(weight.name), (channel_axis(node) or 0) % len(weight.shape))
        groups = [group for group in self._groups if place in group.group.places]
        if not groups:
            return Refused(reasons_of(analysis.skipped).get(name, _WHOLE))
        removed = _removed(subject, groups, form.value)
        if not removed.any():
            return Refused("it has too few channels to cut so many at a time")
        none = analysis.none_removed()
        size_bytes = int(self._bytes(none) - self._bytes(removed))
        samples = subject.context.layout.size
        macs = int(self._macs(none) - self._macs(removed)) // samples
        saved = self._saved(removed, size_bytes, macs)
        return Change(cut(subject.model.clone(), analysis, removed), saved, removed.tobytes())

    def _saved(self, removed: Removed, size_bytes: int, macs: int) -> Saved:
        """Add up the times of all layers that become narrower."""
        subject = self._subject
        names = [name for name, node in subject.nodes.items() if self._narrower(node, removed)]
        before = [subject.time(name) for name in names]
        after = [subject.time(name, removed) for name in names]
        return subject.saved(size_bytes, macs, _total(before), _total(after))

    def _narrower(self, node: ir.Node, removed: Removed) -> bool:
        analysis, shapes = self._subject.analysis, self._subject.survey.sample
        none = analysis.none_removed()
        return is_layer(node) and any(
            shape_left(value, analysis, shapes, removed)
            != shape_left(value, analysis, shapes, none)
            for value in node.inputs
        )


def _removed(subject: Subject, groups: Sequence[OrderedGroup], kept: float) -> Removed:
    """Return the units to remove so that groups keep a share of theirs."""
    removed = subject.analysis.none_removed()
    for group in groups:
        count = len(group.order) - group.keep(kept * len(group.order))
        removed[group.order[:count]] = True
    return removed


def _total(times: Sequence[float | None]) -> float | None:
    known = [time for time in times if time is not None]
    return sum(known) if len(known) == len(times) and known else None
