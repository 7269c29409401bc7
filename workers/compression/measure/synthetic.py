"""Samples for a model without a dataset: seeded random inputs that it accepts."""

from pathlib import Path

from app.domain.problems import DatasetMismatch
from workers.compression.graph.chance import why_untried
from workers.compression.graph.load import load
from workers.compression.graph.pieces import open_graph
from workers.compression.graph.trials import find_trials
from workers.compression.samples.context import Samples
from workers.compression.samples.drawn import draw as draw_samples
from workers.compression.samples.drawn import find_layout

_SAMPLES = 16


def draw(original: Path, seed: int, count: int = _SAMPLES) -> Samples:
    """Draw about ``count`` inputs of the sizes that the model is known to accept.

    Raises:
        DatasetMismatch: the model accepted none of the inputs that were tried, or answers
            differently each time.
    """
    model = load(original)
    trials = find_trials(model, original, seed)
    if not trials:
        raise DatasetMismatch(
            f"{why_untried(model)} Without data nothing can be measured of it: name a dataset."
        )
    run = open_graph(original, len(model.graph))
    layout = find_layout(model, lambda feeds: run(feeds, None), trials[0], seed)
    return draw_samples(model, layout, trials[0], count, seed)
