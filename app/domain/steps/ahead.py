"""What steps that follow one another are expected to do."""

from collections.abc import Iterable, Iterator

from app.domain.steps.base import Forecast, Outlook, Step


def forecasts(steps: Iterable[Step], graph: Outlook) -> Iterator[Forecast]:
    """Yield the forecast of each step, from what the steps before it are expected to leave."""
    for step in steps:
        expected = step.forecast(graph)
        yield expected
        graph = graph.model_copy(update=expected.model_dump(include={"size_bytes", "macs"}))
