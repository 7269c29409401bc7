"""The times of single layers that are known: from earlier jobs, and from this run."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from itertools import islice

from app.domain.layer_times import MOST, MOST_MILLISECONDS, form_of


@dataclass(frozen=True)
class KnownTimes:
    """The milliseconds of layers by the names of their forms; each form is timed once."""

    earlier: Mapping[str, float] = field(default_factory=dict)
    """Timed by earlier jobs on a machine of this kind, with these versions."""
    measured: dict[str, float] = field(default_factory=dict)
    """Timed by this run."""
    taken: set[str] = field(default_factory=set)
    """The forms of earlier jobs that this run used."""

    def of(self, what: Hashable, measure: Callable[[], float]) -> float:
        """Return the milliseconds of a layer.

        Args:
            what: everything that the time of the layer depends on, the threads apart.
            measure: times the layer; called if its time is not known.
        """
        form = form_of(what)
        if form in self.earlier:
            self.taken.add(form)
            return self.earlier[form]
        if form not in self.measured:
            self.measured[form] = measure()
        return self.measured[form]

    @property
    def handed_on(self) -> dict[str, float]:
        """The times for later jobs: what this run has measured, up to a bound."""
        new = (item for item in self.measured.items() if 0 < item[1] <= MOST_MILLISECONDS)
        return dict(islice(new, MOST))

    def note(self, before: int = 0) -> list[str]:
        """Return a note on how many times of earlier jobs were used; none if there were none.

        Args:
            before: the number of those that do not count, as they were used earlier.
        """
        count = len(self.taken) - before
        if not count:
            return []
        times = "One time of a layer was" if count == 1 else f"{count} times of layers were"
        return [f"{times} measured by earlier jobs, on such a machine with these versions."]
