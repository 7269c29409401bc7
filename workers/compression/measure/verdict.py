"""The verdict: whether a result meets the requirement, and the result in words."""

from collections.abc import Mapping, Sequence

from app.domain import metrics
from app.domain.latencies import Comparison, Credited, Latency, same_speed
from app.domain.metrics import Kind
from app.domain.percentages import few, percent_kept
from app.domain.problems import QualityBelowRequirement
from app.domain.reports import (
    DropInterval,
    Evaluation,
    Fidelity,
    Measures,
    Split,
    StepReport,
    is_beyond,
    missed_bound,
    quality_drop,
    ruined,
)
from app.domain.steps import Step
from workers.compression.measure.changes import why_nothing
from workers.compression.measure.likeness import likeness, lost_beside, varies_nowhere

_SAME_SIZE = 0.005
"""Sizes that differ by less, as a share, are called equal."""

_RUINED: Mapping[Split, str] = {
    "held_out": "The file does NOT do what the original does",
    "synthetic": "On random inputs the file does NOT do what the original does",
    "generated": "On samples that were made from the model the file does NOT do what the original"
    " does",
}
"""What comes first of a result of which less than half is left, by what the samples are."""

_UNLABELLED: Mapping[Split, str] = {
    "held_out": "There are no labels, so we compared with the original",
    "synthetic": "There is no data, so we compared with the original on random inputs",
    "generated": "Quality was not measured on real data. We compared with the original on samples"
    " that were made from it",
}
"""The words for a comparison without labels, by what the samples are."""


def drop(baseline: Measures, compressed: Measures) -> float:
    """Return the drop in quality; see ``quality_drop``."""
    return quality_drop(baseline.quality, compressed.quality, compressed.fidelity)


def exceeds(baseline: Measures, compressed: Measures, allowed: float) -> bool:
    """Return whether more quality is lost than is allowed."""
    return is_beyond(drop(baseline, compressed), allowed)


def missed(baseline: Measures, compressed: Measures, allowed: float, who: str) -> str:
    """Return what is left and what ``who`` allows or requires, in a sentence without its stop."""
    lost = drop(baseline, compressed)
    if _has_metric(baseline, compressed):
        metric, kind, before, after = _figures(baseline, compressed)
        return (
            f"{metric} went from {before:.4g} to {after:.4g}, a drop of"
            f" {metrics.amount(kind, lost)}; {who} allows {metrics.amount(kind, allowed)}"
        )
    digits = _telling_digits(1 - lost, 1 - allowed)
    required = percent_kept(1 - allowed, digits)
    said = f"{likeness(compressed.fidelity, digits)}; {who} requires {required}"
    return f"{said[0].upper()}{said[1:]}"


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
    if allowed is None or not exceeds(baseline, compressed, allowed):
        return None
    lost = drop(baseline, compressed)
    metric, _, before, after = _figures(baseline, compressed)
    fell = missed(baseline, compressed, allowed, "the job")
    return QualityBelowRequirement(
        f"{fell}. The artifacts are kept. {_advice(steps, compressed.fidelity)}",
        metric=metric,
        baseline=before,
        compressed=after,
        drop=lost if lost != float("inf") else None,
        allowed=allowed,
    )


def _telling_digits(kept: float, required: float) -> int:
    """Return how many digits tell two shares apart: with one, 98.96 % and 99 % are the same."""
    several = (n for n in range(1, 7) if percent_kept(kept, n) != percent_kept(required, n))
    return next(several, 7)


def _advice(steps: Sequence[Step], fidelity: Fidelity | None) -> str:
    gentler = "; ".join(dict.fromkeys(step.gentler for step in steps))
    allow = (
        f"To lose less, {gentler}; or allow a larger drop." if gentler else "Allow a larger drop."
    )
    if fidelity is None or fidelity.bounded == "agreement" or fidelity.commonest is None:
        return allow
    return f"Samples with different answers tell more: name a dataset of them. {allow}"


def describe(
    baseline: Measures,
    compressed: Measures,
    steps: list[StepReport],
    allowed: float | None,
    evaluation: Evaluation,
) -> str:
    """Return the result in words, the bad news too; notes of steps have lines of their own."""
    if steps and not any(step.changed for step in steps):
        return f"Nothing was changed. {why_nothing(steps)}"
    gains = [_smaller(baseline.size_bytes / max(compressed.size_bytes, 1))]
    if speed := _speed(evaluation):
        gains.append(speed)
    gained, quality = ", ".join(gains), _quality(baseline, compressed, evaluation)
    words, is_ruined = [gained, quality], ruined(baseline, compressed)
    if is_ruined:
        words = [_RUINED[evaluation.split], quality, f"{gained[0].upper()}{gained[1:]}"]
    fidelity = compressed.fidelity
    if fidelity and (_has_metric(baseline, compressed) or fidelity.bounded == "agreement"):
        words += lost_beside(fidelity)
    if allowed is not None:
        words.append(_requirement(baseline, compressed, allowed))
    elif bound := missed_bound(baseline, compressed, steps):
        words.append(
            f"It lost MORE than {metrics.amount(_figures(baseline, compressed)[1], bound)}, the"
            " most that is aimed at where the job bounds no loss"
        )
    if is_ruined and evaluation.split != "held_out":
        words.append("To judge it by samples of your own, name a dataset of them")
    return "\n".join([f"{'. '.join(words)}.", *_notes(steps)])


def _notes(steps: list[StepReport]) -> list[str]:
    """Return the notes of the steps: what a user would not expect."""
    return [
        f"Step {step.index + 1} ({step.method}): {note}" for step in steps for note in step.notes
    ]


def _requirement(baseline: Measures, compressed: Measures, allowed: float) -> str:
    """Say whether the requirement is met, or that the samples cannot tell."""
    if shortfall(baseline, compressed, allowed) is not None:
        return "The requirement is MISSED"
    if _has_metric(baseline, compressed) or not varies_nowhere(compressed.fidelity):
        return "The requirement is met"
    return "The requirement could NOT BE CHECKED: name a dataset of samples that differ"


def _speed(evaluation: Evaluation) -> str | None:
    """Return the speed-up in words, with its interval; or that the machine was too busy.

    Other threads have another speed-up, and so have other numbers of samples in a run.
    """
    latency = evaluation.latency
    if latency is None:
        return None
    told, interval = latency.deciding, latency.interval
    with_all = f"with {_conditions(evaluation)}"
    if told.certain:
        alone = told is not latency
        words = f"{_faster(told)} {'with 1 thread' if alone else with_all}{_by_tidying(told)}"
        if not alone:
            return f"{words}{_otherwise(latency)}"
        if interval is None:
            return f"{words}; {with_all} the machine was too busy to tell"
        return (
            f"{words}; {with_all} {interval} times as fast: the machine was too busy to tell better"
        )
    again = "run it again when it is idle"
    if interval is None:
        return f"at a speed that the machine was too busy to tell ({again})"
    return f"{interval} times as fast {with_all} (the machine was too busy to tell better: {again})"


def _otherwise(latency: Latency) -> str:
    """Say the speed with one thread where it is slower with one of both numbers of threads alone.

    Threads of a small graph may wait for each other longer than they compute.
    """
    alone = latency.one_thread
    if alone is None or not alone.certain or _is_slower(alone) == _is_slower(latency):
        return ""
    return f"; {_faster(alone)} with 1 thread"


def _is_slower(times: Comparison) -> bool:
    return times.speedup < 1 and not same_speed(times.speedup)


def _by_tidying(latency: Credited) -> str:
    """Say how much of the speed comes without any change of the weights."""
    alone = latency.by_tidying
    if alone is None or latency.speedup <= 1 or same_speed(latency.speedup):
        return ""
    rest = latency.speedup / alone
    part = "all" if rest < 1 or same_speed(rest) else _times(alone, "", "").strip()
    return f", {part} of it by tidying the graph, which changes no weight"


def _conditions(evaluation: Evaluation) -> str:
    """Return what the speed was measured with: threads, and samples where a run takes several."""
    threads = "1 thread" if evaluation.threads == 1 else f"{evaluation.threads} threads"
    samples = evaluation.run.samples if evaluation.run else 1
    return threads if samples == 1 else f"{threads} and {samples} samples in a run"


def _faster(times: Comparison) -> str:
    low, high = times.speedup_low, times.speedup_high
    words = (
        "the same speed" if same_speed(times.speedup) else _times(times.speedup, "faster", "SLOWER")
    )
    if low is None or high is None or f"{low:.2f}" == f"{high:.2f}":
        return words
    if "SLOWER" in words:
        low, high = 1 / high, 1 / low
    return f"{words} ({low:.2f} to {high:.2f})"


def _smaller(ratio: float) -> str:
    if abs(ratio - 1) <= _SAME_SIZE:
        return "the same size"
    return _times(ratio, "smaller", "LARGER")


def _times(ratio: float, better: str, worse: str) -> str:
    times = "\N{MULTIPLICATION SIGN}"
    return f"{ratio:.2f}{times} {better}" if ratio > 1 else f"{1 / ratio:.2f}{times} {worse}"


def _quality(baseline: Measures, compressed: Measures, evaluation: Evaluation) -> str:
    if _has_metric(baseline, compressed):
        metric, kind, before, after = _figures(baseline, compressed)
        lost = drop(baseline, compressed)
        direction = "unchanged" if lost == 0 else f"a {'drop' if lost > 0 else 'gain'} of"
        amount = "" if lost == 0 else f" {metrics.amount(kind, abs(lost))}"
        elsewhere = _on_other_samples(evaluation.drop, gained=lost < 0)
        return f"{metric} {before:.4g} → {after:.4g} ({direction}{amount}{elsewhere})"
    of = few(compressed.fidelity.samples) if compressed.fidelity else ""
    compared = f"{_UNLABELLED[evaluation.split]}{f' ({of})' if of else ''}"
    return f"{compared}: {likeness(compressed.fidelity)}"


def _on_other_samples(drop: DropInterval | None, *, gained: bool) -> str:
    """Say in which interval a drop, or a gain, lies on other samples of the same kind."""
    if drop is None:
        return ""
    low, high = (-drop.high, -drop.low) if gained else (drop.low, drop.high)
    between = f"{100 * low:.2f} to {100 * high:.2f}".replace("-", "\N{MINUS SIGN}")
    return f"; on other samples {between} points, with 95 % confidence"


def _has_metric(baseline: Measures, compressed: Measures) -> bool:
    return baseline.quality is not None and compressed.quality is not None


def _figures(baseline: Measures, compressed: Measures) -> tuple[str, Kind, float, float]:
    before, after = baseline.quality, compressed.quality
    if before and after:
        return before.metric, before.kind, before.value, after.value
    fidelity = compressed.fidelity
    if fidelity is None:
        return "agreement", "share", 1.0, 1.0
    return fidelity.bounded, "share", 1.0, fidelity.kept
