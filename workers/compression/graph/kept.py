"""Which indices of a graph's constants are left after cuts."""

from collections.abc import Iterable

Kept = dict[str, dict[int, list[int]]]
"""Of constants that are cut, by name and axis: the indices that are left."""


def after_all(cuts: Iterable[Kept]) -> Kept:
    """Return what is left after one cut and another, as indices of the first graph's constants."""
    total: Kept = {}
    for cut in cuts:
        for name, axes in cut.items():
            known = total.setdefault(name, {})
            for axis, indices in axes.items():
                before = known.get(axis)
                known[axis] = indices if before is None else [before[index] for index in indices]
    return total
