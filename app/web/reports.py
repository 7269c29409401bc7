"""A report as a self-contained page: the verdict first, then the figures, then how they came."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any, Literal, assert_never

from app.domain import metrics
from app.domain.latencies import Latency
from app.domain.reports import (
    Delivered,
    Fidelity,
    JobReport,
    LayerChange,
    Measures,
    Quality,
    StepReport,
)
from app.web import pages
from app.web.choices import Bar, Curve, bars, curves, gain
from app.web.figures import Number, scaled

Tone = Literal["good", "bad", "warn", ""]

_HEADLINE = ("Size", "Latency", "Quality")


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


@dataclass(frozen=True)
class Group:
    """What a step did to all nodes of one operator."""

    operator: str
    nodes: int
    before: Number
    after: Number
    change: str
    weakest: LayerChange | None


@dataclass(frozen=True)
class Step:
    """One step, and what it comes to."""

    report: StepReport
    changes: list[str]
    groups: list[Group]
    curves: list[Curve]
    bars: list[Bar]


def render(report: JobReport) -> str:
    """Return the report as HTML without scripts or anything from elsewhere."""
    rows = figures(report.baseline, report.compressed, report.evaluation.latency)
    machine = report.manifest.machine
    return pages.render(
        "report.html",
        report=report,
        tone=_tone(report, rows),
        figures=rows,
        headline=headline(rows, report.compressed),
        steps=[_step(step) for step in report.step_reports],
        artifacts=artifacts(report.artifacts),
        machine=machine,
        memory=scaled(machine.memory_bytes, "B").text,
        request=_request(report),
        gain=gain,
    )


def artifacts(delivered: Sequence[Delivered]) -> list[tuple[str, list[str]]]:
    """Return what artifacts do side by side: rows of a name and a text for each of them."""
    return [(name, [say(artifact) for artifact in delivered]) for name, say in _SAID_OF_ARTIFACTS]


def headline(rows: Iterable[Figure], after: Measures) -> list[Figure]:
    """Return the figures that stand first; of those of fidelity it is the one that is bounded."""
    first = (*_HEADLINE, *([after.fidelity.bounded.capitalize()] if after.fidelity else []))
    return [figure for figure in rows if figure.name in first]


def _tone(report: JobReport, figures: Iterable[Figure]) -> Tone:
    if report.status != "succeeded":
        return "bad"
    worse = any(figure.tone == "bad" for figure in figures if figure.name in {"Size", "Latency"})
    return "warn" if worse else "good"


def figures(before: Measures, after: Measures, latency: Latency | None = None) -> list[Figure]:
    """Return the rows of the comparison of two graphs."""
    return list(_figures(before, after, latency))


def _figures(before: Measures, after: Measures, latency: Latency | None) -> Iterator[Figure]:
    yield _amount("Size", "of the file", before.size_bytes, after.size_bytes, "B", "smaller/larger")
    if before.latency_ms and after.latency_ms:
        yield Figure(
            "Latency",
            "of one sample",
            _milliseconds(before.latency_ms),
            _milliseconds(after.latency_ms),
            *_speed(before.latency_ms, after.latency_ms, latency),
        )
    yield from _quality(before, after)
    yield _amount("Parameters", "", before.parameters, after.parameters, "", "fewer/more")
    yield _amount(
        "Nonzero parameters", "",
        before.nonzero_parameters, after.nonzero_parameters, "", "fewer/more",
    )  # fmt: skip
    yield _amount(
        "Multiply–accumulates", "for one sample", before.macs, after.macs, "", "fewer/more"
    )
    if before.peak_memory_bytes and after.peak_memory_bytes:
        yield _amount(
            "Peak memory", "of a run in a fresh process",
            before.peak_memory_bytes, after.peak_memory_bytes, "B", "less/more",
        )  # fmt: skip


def _quality(before: Measures, after: Measures) -> Iterator[Figure]:
    if before.quality and after.quality:
        was, now = before.quality.value, after.quality.value
        yield Figure(
            "Quality",
            f"{after.quality.metric} on {after.quality.samples} held-out samples",
            Number(f"{was:.4f}"),
            Number(f"{now:.4f}"),
            _change_of_quality(before.quality, after.quality),
            "warn" if metrics.fall(after.quality.kind, was, now) > 0 else "good",
        )
    if after.fidelity:
        agreement, sqnr = after.fidelity.agreement, after.fidelity.sqnr_db
        yield Figure("Agreement", "with the original", None, Number(f"{agreement:.2%}"))
        yield from _explained(after.fidelity)
        yield Figure(
            "SQNR", "of the outputs", None, Number("equal" if sqnr is None else f"{sqnr:.1f} dB")
        )


def _explained(fidelity: Fidelity) -> Iterator[Figure]:
    """Show the explained variance; of class scores only where it is a share of them.

    The scores of unlikely classes count as much there as those of likely ones: rounding alone may
    leave nothing of thousands that are near zero, while each answer is the same.
    """
    answers = fidelity.bounded == "agreement"
    if fidelity.explained is None or (answers and fidelity.explained < 0):
        return
    note, worst = "of the outputs' variance", fidelity.worst
    if answers:
        note = f"{note}, unlikely classes included: answers are what agreement compares"
    if worst is not None:
        where = f"'{worst.output}'"
        if worst.channel is not None:
            where = f"channel {worst.channel} of {where}"
        note = f"{note}; least in {where}: {_share(worst.explained)}"
    yield Figure("Explained", note, None, Number(_share(fidelity.explained)))


def _share(value: float) -> str:
    """Return a share in percent; one that is noise has no percentage."""
    return f"{value:.2%}" if value >= 0 else "nothing"


def _change_of_quality(before: Quality, after: Quality) -> str:
    """Say by how much a figure changed: of itself for errors, in points or in its own unit."""
    was, now = before.value, after.value
    if was == now:
        return "unchanged"
    match after.kind:
        case "error":
            change = f"{(now - was) / was:+.1%}" if was else ""
        case "gain":
            change = f"{now - was:+.4g}"
        case "share" | "score" | "rate":
            change = f"{100 * (now - was):+.2f} points"
        case _:
            assert_never(after.kind)
    return change.replace("-", "−")


def _milliseconds(value: float) -> Number:
    return Number(f"{value:.{2 if value >= 1 else 3}f} ms")


def _milliseconds_or_none(value: float | None) -> str:
    return "–" if value is None else _milliseconds(value).text


def _decibels(sqnr: float | None) -> str:
    return "equal" if sqnr is None else f"{sqnr:.1f} dB"


def _amount(name: str, note: str, before: int, after: int, unit: str, words: str) -> Figure:
    change, tone, share = _change(before, after, words)
    return Figure(name, note, scaled(before, unit), scaled(after, unit), change, tone, share)


def _change(before: float, after: float, words: str) -> tuple[str, Tone, float | None]:
    """Say how many times less, in the words for less and more; also its tone and what is left."""
    less, more = words.split("/")
    if not before or not after:
        return "", "", None
    share = round(min(100 * after / before, 100.0), 1)
    if round(max(before, after) / min(before, after), 2) == 1:
        return "unchanged", "", share
    if after < before:
        return f"{before / after:.2f}× {less}", "good", share
    return f"{after / before:.2f}× {more}", "bad", share


def _speed(before: float, after: float, latency: Latency | None) -> tuple[str, Tone, float | None]:
    """Say how many times faster a model is; where that is not certain, only between what."""
    if latency is None:
        return _change(before, after, "faster/slower")
    words, tone, share = _change(latency.speedup, 1.0, "faster/slower")
    if latency.speedup_low is None or latency.speedup_high is None:
        return words, tone, share
    low, high = latency.speedup_low, latency.speedup_high
    if not latency.certain:
        return f"not certain: {low:.2f} to {high:.2f}× the speed", "warn", share
    if tone == "bad":
        low, high = 1 / high, 1 / low
    return f"{words} ({low:.2f} to {high:.2f})", tone, share


def _quality_of(artifact: Delivered) -> str:
    quality = artifact.quality
    return "–" if quality is None else f"{quality.value:.4f} {quality.metric}"


def _nearness_of(artifact: Delivered) -> str:
    fidelity = artifact.fidelity
    return "–" if fidelity is None else f"{fidelity.kept:.2%} {fidelity.bounded}"


_SAID_OF_ARTIFACTS: tuple[tuple[str, Callable[[Delivered], str]], ...] = (
    ("File", lambda artifact: artifact.filename),
    ("Size", lambda artifact: scaled(artifact.size_bytes, "B").text),
    ("Runtime", lambda artifact: artifact.runtime or "–" if artifact.ran else "not run"),
    ("Latency of one sample", lambda artifact: _milliseconds_or_none(artifact.latency_ms)),
    (
        "Largest difference to the ONNX graph",
        lambda artifact: "–" if artifact.max_error is None else f"{artifact.max_error:.2g}",
    ),
    ("Quality", _quality_of),
    ("Near the original", _nearness_of),
    ("Remark", lambda artifact: artifact.reason or "–"),
)


def _step(report: StepReport) -> Step:
    changes = [
        f"{figure.name.lower()} {figure.change}"
        for figure in figures(report.before, report.after)
        if figure.change and figure.change != "unchanged"
    ]
    groups = list(_groups(report.layers))
    return Step(report, changes, groups, curves(report.choices), bars(report.prices))


def _groups(layers: Iterable[LayerChange]) -> Iterator[Group]:
    operator = attrgetter("operator")
    for name, found in groupby(sorted(layers, key=operator), operator):
        nodes = list(found)
        before = sum(node.bytes_before for node in nodes)
        after = sum(node.bytes_after for node in nodes)
        compared = [node for node in nodes if node.sqnr_db is not None]
        yield Group(
            name,
            len(nodes),
            scaled(before, "B"),
            scaled(after, "B"),
            _change(before, after, "smaller/larger")[0] or "–",
            min(compared, key=attrgetter("sqnr_db"), default=None),
        )


def _request(report: JobReport) -> dict[str, Any]:
    """Return the body that asks for the same job again."""
    manifest = report.manifest
    return {
        "model": report.model,
        **({"dataset": report.dataset} if report.dataset else {}),
        **({"data": manifest.data} if manifest.data else {}),
        "steps": manifest.steps,
        "evaluate": manifest.evaluate,
        "require": manifest.require,
        "deliver": manifest.deliver,
        "seed": manifest.seed,
    }
