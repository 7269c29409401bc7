"""Rows of tables that set a model beside the first one: how long a run takes, how near it is."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from app.domain.latencies import Latency
    from app.domain.models import SampleSizes

Row = tuple[str, str, str]
"""What is told, of the first model, and of the other one."""


class Fidelity(Protocol):
    """How near outputs are to the original's, as the service and ``compare`` say it."""

    @property
    def agreement(self) -> float:
        """The share of answers that are the same."""

    @property
    def explained(self) -> float | None:
        """The share of the original's variance that is kept."""

    @property
    def samples(self) -> int | None:
        """How many samples were compared."""

    @property
    def bounded(self) -> str:
        """Which of them counts."""


def one_sample(sizes: "SampleSizes") -> str:
    """Say what a run reads: its sizes along dimensions that may differ."""
    from app.domain.models import said_sizes

    said = said_sizes(sizes)
    return f"one sample of {said}" if said else "one sample"


def latency_of(report: Mapping[str, Any]) -> "Latency | None":
    """Return the comparison of times in a report, which a newer service may have more to say in."""
    from app.domain.latencies import Latency

    found = report["evaluation"]["latency"]
    return None if found is None else Latency.model_validate(found, extra="ignore")


def times(latency: "Latency", threads: int, sample: str) -> Row:
    """Return the row that says how long a run takes: the comparison that the verdict goes by too.

    Args:
        latency: of both.
        threads: how many computed.
        sample: what a run reads, in words.
    """
    told = latency.deciding
    threads = threads if told is latency else 1
    busy = "" if told.certain else " (the machine was busy)"
    name = f"ms, {sample}, {threads} thread{'' if threads == 1 else 's'}{busy}"
    return name, f"{told.original.median:.3g}", told.likely("{:.3g}".format)


def nearness(fidelity: Fidelity) -> Row:
    """Return the row that says how near a model is to the first one: by what counts."""
    from app.domain.percentages import few, percent_kept

    of = f", {said}" if (said := few(fidelity.samples)) else ""
    if fidelity.bounded == "agreement" or fidelity.explained is None:
        return f"same answers as the first{of}", "", percent_kept(fidelity.agreement)
    return f"variance of the first that is kept{of}", "", percent_kept(fidelity.explained)
