"""A report as a self-contained page: the verdict first, then the figures, then how they came."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any

from app.domain.latencies import Latency
from app.domain.reports import Delivered, JobReport, LayerChange, StepReport
from app.web import layers, pages
from app.web.choices import Bar, Curve, bars, curves, gain
from app.web.comparison import (
    LATENCY,
    SAME_SPEED,
    change,
    figures,
    headline,
    likeness,
    milliseconds,
    tone,
)
from app.web.figures import Number, scaled


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
    rows = figures(report.baseline, report.compressed, report.evaluation)
    machine = report.manifest.machine
    changed = layers.changed(report.step_reports)
    return pages.render(
        "report.html",
        report=report,
        tone=tone(report.status, rows, report),
        figures=rows,
        headline=headline(rows, report.compressed),
        steps=[_step(step, report.evaluation.latency) for step in report.step_reports],
        layers=changed,
        picture=layers.picture(changed),
        artifacts=artifacts(report.artifacts),
        machine=machine,
        memory=scaled(machine.memory_bytes, "B").text,
        request=_request(report),
        gain=gain,
    )


def artifacts(delivered: Sequence[Delivered]) -> list[tuple[str, list[str]]]:
    """Return what artifacts do side by side: rows of a name and a text for each of them."""
    return [(name, [say(artifact) for artifact in delivered]) for name, say in _SAID_OF_ARTIFACTS]


def _latency_of(artifact: Delivered) -> str:
    return "–" if artifact.latency_ms is None else milliseconds(artifact.latency_ms).text


def _quality_of(artifact: Delivered) -> str:
    quality = artifact.quality
    return "–" if quality is None else f"{quality.value:.4f} {quality.metric}"


def _nearness_of(artifact: Delivered) -> str:
    return "–" if artifact.fidelity is None else likeness(artifact.fidelity)


_SAID_OF_ARTIFACTS: tuple[tuple[str, Callable[[Delivered], str]], ...] = (
    ("File", lambda artifact: artifact.filename),
    ("Size", lambda artifact: scaled(artifact.size_bytes, "B").text),
    ("Runtime", lambda artifact: artifact.runtime or "–" if artifact.ran else "not run"),
    ("Latency of one sample", _latency_of),
    (
        "Largest difference to the ONNX graph",
        lambda artifact: "–" if artifact.max_error is None else f"{artifact.max_error:.2g}",
    ),
    ("Quality", _quality_of),
    ("Near the original", _nearness_of),
    ("Remark", lambda artifact: artifact.reason or "–"),
)


def _step(report: StepReport, latency: Latency | None) -> Step:
    """Show a step; its latency is left out where the job's could not be told."""
    untold = {"", "unchanged", "hardly changed", SAME_SPEED}
    changes = [
        f"{figure.name.lower()} {figure.change}"
        for figure in figures(report.before, report.after)
        if figure.change not in untold
        and (figure.name != LATENCY or latency is None or latency.certain)
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
            change(before, after, "smaller/larger")[0] or "–",
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
