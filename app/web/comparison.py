"""Two graphs side by side: a row of words for each figure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, assert_never

from app.domain import metrics
from app.domain.latencies import Latency, same_speed
from app.domain.models import said_sizes
from app.domain.percentages import few, percent_kept
from app.domain.reports import (
    DropInterval,
    Evaluation,
    Fidelity,
    Measures,
    Quality,
    Report,
    missed_bound,
    ruined,
)
from app.web.figures import Number, scaled

Tone = Literal["good", "bad", "warn", ""]

LATENCY = "Latency"
_HEADLINE = ("Size", LATENCY, "Quality")
SAME_SPEED = "the same speed"
KEPT = {"agreement": "Same answers", "explained": "Variance kept"}
"""The figure of a comparison with the original that is bounded, in the words of a page."""


@dataclass(frozen=True)
class Figure:
    """One row of the comparison."""

    name: str
    note: str
    before: Number | None
    after: Number
    change: str = ""
    tone: Tone = ""
    share: float | None = None
    """What is left of the original, in percent."""
    interval: str = ""
    """The interval that the change lies in, in words; empty where the change is exact."""


def headline(rows: Iterable[Figure], after: Measures) -> list[Figure]:
    """Return the figures that stand first: of those of fidelity, the bounded one."""
    first = {*_HEADLINE}
    if after.fidelity is not None:
        first.add(KEPT[after.fidelity.bounded])
    return [figure for figure in rows if figure.name in first]


def tone(status: str, rows: Iterable[Figure], report: Report | None) -> Tone:
    """Return the colour of a verdict: a success may be unlike the original, larger, or slower.

    It may also have lost more than its steps meant to.
    """
    bad = {row.name for row in rows if row.tone == "bad"}
    if status != "succeeded" or not bad.isdisjoint({"Quality", *KEPT.values()}):
        return "bad"
    if not bad.isdisjoint({"Size", LATENCY}):
        return "warn"
    missed = report and missed_bound(report.baseline, report.compressed, report.step_reports)
    return "good" if missed is None else "warn"


def figures(
    before: Measures, after: Measures, evaluation: Evaluation | None = None
) -> list[Figure]:
    """Return the rows of the comparison of two graphs.

    That less is left of something is no good news where the result is ruined.

    Args:
        before: of the original.
        after: of the result.
        evaluation: how both were measured; None for what a step made, which is told more briefly.
    """
    rows = list(_figures(before, after, evaluation))
    if not ruined(before, after):
        return rows
    return [replace(row, tone="") if row.tone == "good" else row for row in rows]


def _figures(before: Measures, after: Measures, evaluation: Evaluation | None) -> Iterator[Figure]:
    latency, drop = (evaluation.latency, evaluation.drop) if evaluation else (None, None)
    yield _amount("Size", "of the file", before.size_bytes, after.size_bytes, "B", "smaller/larger")
    of_sizes = _of_sizes(evaluation)
    if (time := time_of(before, after, latency)) is not None:
        note = f"{time.note}{of_sizes}{_threads(evaluation)}{_by_tidying(latency)}"
        yield replace(time, note=note)
    yield from _quality(before, after, drop)
    yield _amount("Parameters", "", before.parameters, after.parameters, "", "fewer/more")
    yield _amount(
        "Nonzero parameters", "",
        before.nonzero_parameters, after.nonzero_parameters, "", "fewer/more",
    )  # fmt: skip
    yield _amount(
        "Multiply–accumulates", f"for one sample{of_sizes}",
        before.macs, after.macs, "", "fewer/more",
    )  # fmt: skip
    if before.peak_memory_bytes and after.peak_memory_bytes:
        yield _amount(
            "Peak memory", "of a run in a fresh process",
            before.peak_memory_bytes, after.peak_memory_bytes, "B", "less/more",
        )  # fmt: skip


def _of_sizes(evaluation: Evaluation | None) -> str:
    """Say which sizes a sample had along dimensions that may differ."""
    if evaluation is None or not evaluation.sample_sizes:
        return ""
    inputs = (
        [(each.name, len(each.shape)) for each in evaluation.run.inputs] if evaluation.run else []
    )
    return f" with {said_sizes(evaluation.sample_sizes, inputs)}"


def _threads(evaluation: Evaluation | None) -> str:
    """Say how many threads computed in the runs whose times are told."""
    if evaluation is None or evaluation.latency is None:
        return ""
    if evaluation.latency.deciding is not evaluation.latency:
        return f", with one thread: the machine was too busy to tell with {evaluation.threads}"
    threads = "one thread" if evaluation.threads == 1 else f"{evaluation.threads} threads"
    return f", with {threads}"


def _by_tidying(latency: Latency | None) -> str:
    """Say how much of the speed comes without any change of the weights."""
    alone = latency.deciding.by_tidying if latency else None
    if alone is None:
        return ""
    return f"; tidying the graph alone, without any change of weights, makes it {alone:.2f}× faster"


def time_of(before: Measures, after: Measures, latency: Latency | None) -> Figure | None:
    """Return the row of the times of two graphs; None where they were not timed."""
    if not before.latency_ms or not after.latency_ms:
        return None
    was, now = milliseconds(before.latency_ms), milliseconds(after.latency_ms)
    if latency is not None and not latency.certain:
        was = milliseconds(latency.deciding.original.median)
        now = Number(latency.deciding.likely(lambda value: milliseconds(value).text))
    speed = _speed(before.latency_ms, after.latency_ms, latency)
    return Figure(LATENCY, "of one sample", was, now, *speed)


def _quality(before: Measures, after: Measures, drop: DropInterval | None) -> Iterator[Figure]:
    is_ruined = ruined(before, after)
    if before.quality and after.quality:
        was, now = before.quality.value, after.quality.value
        fell = metrics.fall(after.quality.kind, was, now) > 0
        yield Figure(
            "Quality",
            f"{after.quality.metric} on {after.quality.samples} held-out samples",
            Number(f"{was:.4f}"),
            Number(f"{now:.4f}"),
            _change_of_quality(before.quality, after.quality),
            "bad" if is_ruined else "warn" if fell else "good",
            interval=_on_other_samples(drop),
        )
    if after.fidelity:
        by_fidelity = is_ruined and not (before.quality and after.quality)
        yield _same(after.fidelity, is_ruined=by_fidelity)
        yield from _explained(after.fidelity, is_ruined=by_fidelity)
        yield Figure(
            "Signal to error",
            "SQNR of the outputs: at 20 dB errors are a tenth as large, at 40 dB a hundredth",
            None,
            Number(_decibels(after.fidelity.sqnr_db)),
        )


def _same(fidelity: Fidelity, *, is_ruined: bool) -> Figure:
    """Show the agreement: of answers where outputs are scores or labels, else of single values."""
    same = Number(percent_kept(fidelity.agreement, 2))
    if not fidelity.counts_answers:
        return Figure("Near values", "within 1 % of the original's range", None, same)
    is_bad = is_ruined and (fidelity.bounded == "agreement" or fidelity.answers_changed)
    return Figure(
        KEPT["agreement"], _of_answers(fidelity), None, same, tone="bad" if is_bad else ""
    )


def _of_answers(fidelity: Fidelity) -> str:
    """Say what is counted, of how few samples, and how many are equal by chance."""
    note, commonest = "as the original gives", fidelity.commonest
    if of := few(fidelity.samples):
        note = f"{note}, of {of}"
    if commonest is None:
        return note
    if commonest == 1:
        tells = "the result gives others" if fidelity.agreement < 1 else "this tells nothing"
        return f"{note}, which is one and the same for all samples: {tells}"
    return f"{note}; always the most frequent one would be {percent_kept(commonest, 2)}"


def _explained(fidelity: Fidelity, *, is_ruined: bool) -> Iterator[Figure]:
    """Show the explained variance; it may be bad where it is what is bounded.

    The scores of unlikely classes count as much there as those of likely ones: rounding alone may
    leave nothing of thousands that are near zero, while each answer is the same.
    """
    if fidelity.explained is None:
        return
    note, worst = "of the original's outputs", fidelity.worst
    if of := few(fidelity.samples):
        note = f"{note}, of {of}"
    note = f"{note}; 100 % is equal"
    if fidelity.counts_answers:
        note = f"{note}, the scores of unlikely classes included"
    if worst is not None:
        where = f"'{worst.output}'"
        if worst.channel is not None:
            where = f"channel {worst.channel} of {where}"
        note = f"{note}; least in {where}: {_share_kept(worst.explained, fidelity)}"
        if fidelity.one_channel_decides and worst.others is not None:
            note = f"{note}, all others keep {percent_kept(worst.others, 2)}"
    kept = Number(_share_kept(fidelity.explained, fidelity))
    is_bad = is_ruined and fidelity.bounded == "explained"
    yield Figure(KEPT["explained"], note, None, kept, tone="bad" if is_bad else "")


def _share_kept(explained: float, fidelity: Fidelity) -> str:
    """Return a share of the variance; less than none is bad news only where it is bounded."""
    if explained < 0 and fidelity.bounded == "agreement":
        return "below 0 %"
    return percent_kept(explained, 2)


def _change_of_quality(before: Quality, after: Quality) -> str:
    """Say by how much a figure changed: of itself for errors, in points or in its own unit."""
    was, now = before.value, after.value
    if was == now:
        return "unchanged"
    match after.kind:
        case "error":
            change = f"{100 * (now - was) / was:+.1f} %" if was else ""
        case "gain":
            change = f"{now - was:+.4g}"
        case "share" | "score" | "rate":
            change = f"{100 * (now - was):+.2f} points"
        case _:
            assert_never(after.kind)
    return change.replace("-", "−")


def _on_other_samples(drop: DropInterval | None) -> str:
    """Say in which interval the change lies on other samples of the same kind."""
    if drop is None:
        return ""
    between = f"{-100 * drop.high:+z.2f} and {-100 * drop.low:+z.2f} points"
    return f"on other samples between {between}".replace("-", "−")


def quality(measures: Measures) -> str:
    """Return how good a graph is, in words: by the metric, else by comparison with the original."""
    if measures.quality is not None:
        return f"{measures.quality.metric} {measures.quality.value:.4f}"
    fidelity = measures.fidelity
    if fidelity is None:
        return "not compared"
    return likeness(fidelity)


def likeness(fidelity: Fidelity) -> str:
    """Return how near a graph is to the original, in words: by what is bounded."""
    return f"{KEPT[fidelity.bounded].lower()} {percent_kept(fidelity.kept, 2)}"


def milliseconds(value: float) -> Number:
    """Return a time for reading, with three digits at least."""
    if value >= 1:
        return Number(f"{value:.2f} ms")
    return Number(f"{value:.3f} ms" if value >= 0.1 else f"{value:#.3g} ms")


def _decibels(sqnr: float | None) -> str:
    return "equal" if sqnr is None else f"{sqnr:.1f} dB"


def _amount(name: str, note: str, before: int, after: int, unit: str, words: str) -> Figure:
    return Figure(
        name, note, scaled(before, unit), scaled(after, unit), *change(before, after, words)
    )


def change(before: float, after: float, words: str) -> tuple[str, Tone, float | None]:
    """Compare two amounts, such as ``1.50× faster``.

    Args:
        before: of the original.
        after: of the result.
        words: for less and for more, such as ``smaller/larger``.

    Returns:
        How many times less or more there is, in words; the tone, good for less; and what is left of
        the original, in percent and at most 100. Words are empty, and nothing is said to be left,
        where an amount is 0; they name no times that would be 1.00.
    """
    less, more = words.split("/")
    if not before or not after:
        return "", "", None
    share = round(min(100 * after / before, 100.0), 1)
    if round(max(before, after) / min(before, after), 2) == 1:
        return "unchanged" if before == after else "hardly changed", "", share
    if after < before:
        return f"{before / after:.2f}× {less}", "good", share
    return f"{after / before:.2f}× {more}", "bad", share


def _speed(
    before: float, after: float, latency: Latency | None
) -> tuple[str, Tone, float | None, str]:
    """Say how many times faster a model is, and in which interval; or that it is not certain."""
    told = latency and latency.deciding
    speedup = before / after if told is None else told.speedup
    words, tone, share = change(speedup, 1.0, "faster/slower")
    if same_speed(speedup):
        words, tone = SAME_SPEED, ""
    if told is None:
        return words, tone, share, ""
    if not told.certain:
        interval = told.interval
        between = f": {interval} times as fast" if interval else ""
        return "not certain", "warn", share, f"the machine was busy{between}"
    low, high = told.speedup_low, told.speedup_high
    said = [] if told is latency else ["with one thread"]
    if low is not None and high is not None:
        if tone == "bad":
            low, high = 1 / high, 1 / low
        if f"{low:.2f}" != f"{high:.2f}":
            said.insert(0, f"between {low:.2f} and {high:.2f}")
    return words, tone, share, ", ".join(said)
