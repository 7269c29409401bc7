"""The axes of the guided search: single ways to make a graph smaller, and what is thought of them.

An axis is a step with one number, its *amount*: the share that it takes away. A kind of bits has no
number, and stands in a pipeline or not. Losses and savings that are thought of at first are those
of common networks; they are only where a search begins, and its trials put them right.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from app.domain.searches import Goal
from app.domain.sensitivity import Kind, Sensitivity
from app.domain.steps import AnyStep, Cluster, Distill, LowRank, Prune, Quantize, Subnet
from app.domain.steps.distill import Derived, Scale
from app.domain.steps.recover import Recover
from workers.search.chart import expect
from workers.search.space import Facts

Build = Callable[[float, Recover | None], AnyStep]

RATIOS = (0.1, 0.97)
"""The least and the greatest amount of an axis that has one."""

_MOST_IN_BITS = 0.87
"""The share of the bytes of weights that four bits save, in place of 32, with their scales."""

_OF_VARIANCE = 0.3
"""Quality that is lost for each share of the outputs' variance that a chart says is lost."""

_OF_TIMES, _OF_WORK = 0.85, 0.65
"""The share of a run's time that is saved where all of its layers' time is, or all MACs."""

_CHARTED = (0.25, 0.5)
"""The amounts at which a chart is read: one loss, and how it rises."""


@dataclass(frozen=True)
class Axis:
    """One way to make a graph smaller, with what is expected of it before its first trial."""

    name: str
    build: Build
    loss: float
    """Of quality, without training, where half is taken away; or, of bits, at all."""
    gain: float
    """The share of what is minimised that is saved for the amount of 1."""
    rise: float = 1.5
    """The power of ``amount / (1 - amount)`` with which the loss rises."""
    whole: bool = False
    """Whether there is no amount: the step stands in a pipeline or not."""
    bits: bool = False
    """Whether it stands at the end of a pipeline, alone of its kind."""
    trains: bool = True
    """Whether the step may be followed by training."""
    sure: bool = False
    """Whether the amount is, by definition, the share that is saved."""
    most: float = RATIOS[1]
    """The greatest amount."""


def widths_of(facts: Facts) -> Iterator[Axis]:
    """Yield channels whose shares are learned layer by layer (AMC), and the bits behind them."""
    of = _counted(facts)
    yield _auto(facts)
    yield _charted(
        Axis(
            "learned channels",
            lambda ratio, recover: Prune(scope="learned", ratio=ratio, of=of, recover=recover),
            loss=0.02,
            gain=0.9,
        ),
        facts,
        "channels",
    )


def bits_of(facts: Facts) -> Iterator[Axis]:
    """Yield stored weights whose bits are learned layer by layer (HAQ), and channels before them.

    Four bits are the fewest, so bits alone end at an eighth of the file and what scales take.
    """
    yield Axis(
        "learned bits",
        lambda ratio, _: Quantize(mode="weight_only", unpack="load", ratio=ratio),
        loss=0.0005,
        gain=0.97,
        bits=True,
        trains=False,
        sure=True,
        most=_MOST_IN_BITS,
    )
    yield _channels(facts)


def networks_of(facts: Facts) -> Iterator[Axis]:
    """Yield networks that are taken out of a supernet (Once-for-all), and the bits behind them."""
    yield _auto(facts)
    of: Literal["macs", "size"] = "size" if facts.goal == "size" else "macs"
    yield _by_ratio(
        facts, "sub-network", lambda r, _: Subnet(ratio=r, of=of), loss=0.02, trains=False
    )


def axes_of(facts: Facts) -> Iterator[Axis]:
    """Yield what may be tried of a model, the least risky bits first."""
    size, of = facts.goal == "size", _counted(facts)
    yield _auto(facts)
    gain = 0.7 if size else 0.4
    if size:
        stored = Quantize(mode="weight_only", unpack="load")
        yield _bits("float16", Quantize(mode="float16"), loss=1e-4, gain=0.48)
        yield _bits("stored int8", stored, loss=0.001, gain=0.72)
        yield _bits(
            "stored int4", stored.model_copy(update={"weights": "int4"}), loss=0.02, gain=0.84
        )
    if facts.trains:
        yield Axis("qat", _qat, 0.01, gain, whole=True, bits=True)
    yield _channels(facts)
    ranks = _by_ratio(facts, "ranks", lambda r, t: LowRank(ratio=r, of=of, recover=t), loss=0.03)
    yield _charted(ranks, facts, "rank")
    if facts.trains:
        yield _by_ratio(facts, "narrow", _narrow, loss=0.06)
    yield Axis("zeros", _zeros, loss=0.005, gain=0.85)
    yield Axis("shared", _shared, loss=0.01, gain=0.8, whole=True, bits=True)


def _channels(facts: Facts) -> Axis:
    of = _counted(facts)
    axis = _by_ratio(facts, "channels", lambda r, t: Prune(ratio=r, of=of, recover=t), loss=0.03)
    return _charted(axis, facts, "channels")


def _counted(facts: Facts) -> Goal:
    """Return what ratios count: what is minimised, and MACs for times that are another machine's.

    A layer's time is that of a run by onnxruntime on the worker (decision 45).
    """
    return "macs" if facts.goal == "latency" and not facts.timed_here else facts.goal


def _by_ratio(facts: Facts, name: str, build: Build, loss: float, *, trains: bool = True) -> Axis:
    """Return an axis whose amount is a ratio; of latency, less than the ratio is saved.

    The times of layers are not all of a run's, and MACs say less of it.
    """
    if facts.goal == "latency":
        return Axis(name, build, loss, _OF_TIMES if facts.timed_here else _OF_WORK, trains=trains)
    return Axis(name, build, loss, 0.97, trains=trains, sure=True)


def _auto(facts: Facts) -> Axis:
    size = facts.goal == "size"
    auto = Quantize(prefer="size" if size else "speed")
    return _bits("auto", auto, loss=0.002, gain=0.72 if size else 0.45)


def _bits(name: str, step: AnyStep, loss: float, gain: float) -> Axis:
    return Axis(name, lambda _a, _t: step, loss, gain, whole=True, bits=True, trains=False)


def _qat(_: float, recover: Recover | None) -> AnyStep:
    return Quantize(mode="qat", recover=recover)


def _narrow(amount: float, recover: Recover | None) -> AnyStep:
    student = Derived(derive=Scale(width=round((1 - amount) ** 0.5, 3)))
    return Distill(student=student, recover=recover or Recover())


def _zeros(amount: float, recover: Recover | None) -> AnyStep:
    return Prune(granularity="unstructured", sparsity=amount, recover=recover)


def _shared(_: float, recover: Recover | None) -> AnyStep:
    return Cluster(recover=recover)


def _charted(axis: Axis, facts: Facts, kind: Kind) -> Axis:
    """Return an axis with the losses and savings that the chart of the model lets expect."""
    if facts.chart is None:
        return axis
    return _expected(axis, facts.chart, kind, facts)


def _expected(axis: Axis, chart: Sensitivity, kind: Kind, facts: Facts) -> Axis:
    of = _counted(facts)
    few, half = (expect(chart, kind, facts.goal, amount, of) for amount in _CHARTED)
    if few is None:
        return replace(axis, loss=1.0)  # no layer bears so little
    if half is None:
        return replace(axis, loss=max(10 * _OF_VARIANCE * few.lost, axis.loss), gain=few.gain)
    return replace(axis, loss=max(_OF_VARIANCE * half.lost, 1e-5), gain=half.gain)
