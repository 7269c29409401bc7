"""The verdict: whether a result meets the requirement, and the result in words."""

from collections.abc import Mapping, Sequence

from app.domain import metrics
from app.domain.latencies import Comparison, Latency
from app.domain.metrics import Kind
from app.domain.percentages import percent_kept
from app.domain.problems import QualityBelowRequirement
from app.domain.reports import (
    Fidelity,
    Measures,
    Split,
    StepReport,
    quality_drop,
)
from app.domain.steps import Step
from workers.compression.measure.changes import why_nothing

_SAME = 0.03
"""Latencies that differ by less are called equal, as the difference is noise."""

_UNLABELLED: Mapping[Split, str] = {
    "held_out": "There are no labels, so we compared with the original",
    "synthetic": "There is no data, so we compared with the original on random inputs",
    "generated": "Quality was not measured on real data: we compared with the original on samples"
    " that were made from it",
}
"""The words for a comparison without labels, by what the samples are."""

_SAID: Mapping[str, str] = {
    "agreement": "The share of answers that are the original's",
    "explained": "The share of the original's variance that the outputs keep",
}
"""The figures of a comparison without labels, in words."""


def drop(baseline: Measures, compressed: Measures) -> float:
    """Return the drop in quality; see ``quality_drop``."""
    return quality_drop(baseline.quality, compressed.quality, compressed.fidelity)


def shortfall(
    baseline: Measures, compressed: Measures, allowed: float | None, steps: Sequence[Step] = ()
) -> QualityBelowRequirement | None:
    """Return the problem of a result that misses its requirement, None if it meets it.

    Args:
        baseline: the figures of the original.
        compressed: those of the result.
        allowed: the largest drop; None bounds nothing.
        steps: what made the result: each says what to ask for instead.
    """
    lost = drop(baseline, compressed)
    if allowed is None or lost <= allowed + 1e-12:
        return None
    metric, kind, before, after = _figures(baseline, compressed)
    return QualityBelowRequirement(
        f"{_SAID.get(metric, metric)} went from {before:.4g} to {after:.4g}, a drop of"
        f" {metrics.amount(kind, lost)}; {metrics.amount(kind, allowed)} is allowed. The artifacts"
        f" are kept. {_advice(steps)}",
        metric=metric,
        baseline=before,
        compressed=after,
        drop=lost if lost != float("inf") else None,
        allowed=allowed,
    )


def _advice(steps: Sequence[Step]) -> str:
    gentler = "; ".join(dict.fromkeys(step.gentler for step in steps))
    return (
        f"To lose less, {gentler}; or allow a larger drop." if gentler else "Allow a larger drop."
    )


def describe(
    baseline: Measures,
    compressed: Measures,
    steps: list[StepReport],
    allowed: float | None,
    latency: Latency | None = None,
    *,
    split: Split,
) -> str:
    """Return the result in words, the bad news too."""
    if steps and not any(step.changed for step in steps):
        return f"Nothing was changed. {why_nothing(steps)}"
    parts = [
        _ratio(baseline.size_bytes / max(compressed.size_bytes, 1), "smaller", "LARGER", 0.005)
    ]
    if latency is not None:
        parts.append(_speed(latency))
    words = [", ".join(parts), _quality(baseline, compressed, split)]
    if allowed is not None:
        missed = shortfall(baseline, compressed, allowed) is not None
        words.append("The requirement is MISSED" if missed else "The requirement is met")
    return f"{'. '.join(words)}. {_notes(steps)}".strip()


def _notes(steps: list[StepReport]) -> str:
    """Return the notes of the steps: what a user would not expect."""
    return " ".join(
        f"Step {step.index + 1} ({step.method}): {note}" for step in steps for note in step.notes
    )


def _speed(latency: Latency) -> str:
    """Return the speed-up in words, with its interval; or that the machine was too busy."""
    if latency.certain:
        return _faster(latency)
    words = "the machine was too busy to measure the speed"
    interval = latency.interval
    if interval is not None:
        words += f" well: it is {interval} times the original's"
    alone = latency.one_thread
    if alone and alone.certain:
        return f"{words}; with one thread {_faster(alone)}"
    return f"{words} (run the job again when the machine is idle)"


def _faster(times: Comparison) -> str:
    words, low, high = (
        _ratio(times.speedup, "faster", "SLOWER", _SAME), times.speedup_low, times.speedup_high
    )  # fmt: skip
    if low is None or high is None or f"{low:.2f}" == f"{high:.2f}":
        return words
    if "SLOWER" in words:
        low, high = 1 / high, 1 / low
    return f"{words} ({low:.2f} to {high:.2f})"


def _ratio(ratio: float, better: str, worse: str, tolerance: float) -> str:
    noun = "size" if better == "smaller" else "speed"
    if abs(ratio - 1) <= tolerance:
        return f"the same {noun}"
    times = "\N{MULTIPLICATION SIGN}"
    return f"{ratio:.2f}{times} {better}" if ratio > 1 else f"{1 / ratio:.2f}{times} {worse}"


def _quality(baseline: Measures, compressed: Measures, split: Split) -> str:
    if baseline.quality and compressed.quality:
        metric, kind, before, after = _figures(baseline, compressed)
        lost = drop(baseline, compressed)
        direction = "unchanged" if lost == 0 else f"a {'drop' if lost > 0 else 'gain'} of"
        amount = "" if lost == 0 else f" {metrics.amount(kind, abs(lost))}"
        return f"{metric} {before:.4g} → {after:.4g} ({direction}{amount})"
    return f"{_UNLABELLED[split]}: {_likeness(compressed.fidelity)}"


def _likeness(fidelity: Fidelity | None) -> str:
    """Return the fidelity in words, by the figure that the requirement bounds."""
    if fidelity is None or fidelity.explained is None or fidelity.bounded == "agreement":
        return f"{percent_kept(fidelity.agreement if fidelity else 1.0)} of answers are the same"
    sentence = f"its outputs keep {percent_kept(fidelity.explained)} of the original's variance"
    worst = fidelity.worst
    if worst is None or worst.explained >= fidelity.explained:
        return sentence
    where = f"output '{worst.output}'"
    if worst.channel is not None:
        where = f"channel {worst.channel} of {where}"
    return f"{sentence}, least in {where}: {percent_kept(worst.explained)}"


def _figures(baseline: Measures, compressed: Measures) -> tuple[str, Kind, float, float]:
    before, after = baseline.quality, compressed.quality
    if before and after:
        return before.metric, before.kind, before.value, after.value
    fidelity = compressed.fidelity
    if fidelity is None:
        return "agreement", "share", 1.0, 1.0
    return fidelity.bounded, "share", 1.0, fidelity.kept
