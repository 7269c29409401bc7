"""What a report says of its figures: on which samples they are, and how to read them."""

from collections.abc import Sequence

from app.domain.reports import Fidelity
from workers.compression.graph.stats import notes_on_macs
from workers.compression.measure.evaluation_set import EvaluationSet
from workers.compression.measure.metrics.graph import GraphMetric
from workers.compression.measure.passes import Judge
from workers.compression.measure.size import Size

_EXPLAINED = (
    "'Variance kept' (explained) is the share of the original's variance that the errors leave: of"
    " each channel in its own units, a mean over the channels that vary, then over outputs."
)

_GENERATED = "There is no dataset: {} samples were made from the model for the steps."

_GRAPH = (
    "Quality is what model {} computes of the outputs: less is better, and a drop is relative.",
    "Quality is what model {} computes of the outputs: more is better, and a drop is absolute.",
)
"""The note on a metric of a graph, by whether more is better."""

_LATENCY = (
    "Latency is that of the graph as onnxruntime optimizes it. Original and compressed run by turns"
    " after a warm-up; rounds in which other work took the processor away do not count."
)

_MEMORY = "Peak memory is what a fresh process grows by while it loads the graph and runs it once."
_NO_MEMORY = "Peak memory is not measured: it takes a process, which may not be started here."


def notes_on_figures(
    judge: Judge | None,
    output: str,
    fidelity: Fidelity | None,
    evaluation_set: EvaluationSet,
    *,
    has_memory: bool,
    sizes: Sequence[Size],
) -> list[str]:
    """Return the notes on an evaluation, in the order of the report.

    Args:
        judge: the metric; None where none was computed.
        output: the name of the output that agreement is computed on.
        fidelity: the result's.
        evaluation_set: the samples that graphs were judged on.
        has_memory: whether peak memory was measured.
        sizes: of the original and of each step's graph.
    """
    scored = fidelity is not None and fidelity.counts_answers
    kept = "'Same answers'" if scored else "'Near values'"
    count = (
        "equal highest scores, or equal labels,"
        if scored
        else "values within 1 % of the original's range"
    )
    notes = [
        f"{kept} (agreement) counts {count} in output '{output}'.",
        _EXPLAINED,
        *_notes_on_samples(evaluation_set),
    ]
    if isinstance(judge, GraphMetric):
        notes.append(_GRAPH[judge.kind == "gain"].format(judge.metric))
    elif judge is None and not evaluation_set.synthetic:
        notes.append("The dataset has no targets: we compared with the original's answers.")
    notes += [_LATENCY, _MEMORY if has_memory else _NO_MEMORY]
    unknown = max(size.unknown for size in sizes)
    return notes + notes_on_macs(unknown, {name for size in sizes for name in size.uncounted})


def _notes_on_samples(evaluation_set: EvaluationSet) -> list[str]:
    """Return where the samples come from, and what that means for the figures."""
    notes = list[str]()
    if evaluation_set.generated is not None:
        notes.append(_GENERATED.format(evaluation_set.generated.samples))
        notes.append(evaluation_set.generated.note)
    if evaluation_set.split == "generated":
        notes.append(
            "Quality was not measured on real data: the samples to judge on were made from the"
            " model too, and held out. Name real ones in 'evaluate.dataset' to be sure."
        )
    elif evaluation_set.synthetic:
        notes.append("There is no dataset: we compared with the original on random inputs.")
    elif evaluation_set.dataset is not None:
        notes.append(
            f"All figures are on dataset {evaluation_set.dataset}, which no step has seen."
        )
        if evaluation_set.shared:
            notes.append(
                f"{evaluation_set.shared} of its samples are also in the job's, and left out."
            )
    else:
        notes.append(
            "The held-out samples are a part of the job's own dataset. If the original was trained"
            " on them, its quality, and the result's, look better here than they are on new data:"
            " to be sure, name a dataset of new samples in 'evaluate.dataset'."
        )
    return notes
