"""Ratios of times come with an interval that holds, and rounds that were disturbed do not count."""

import math
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from app.domain.latencies import Latency
from app.domain.reports import Evaluation, LayerChange, Measures, StepReport
from tests.workers import zoo
from workers.compression.measure import clock, verdict
from workers.compression.measure.ratio import CLOSE, CONFIDENCE, FEWEST, paired
from workers.compression.measure.turns import Run, Timer, Turns, by_turns, comparison
from workers.compression.targets import onnx as target

SHIFTS = [0.5, 1.0, 1.9]


@pytest.mark.parametrize("count", [8, 9, 15, 40, 200, 999, 1000, 3000])
def test_the_interval_leaves_out_as_many_pairs_as_the_sign_test_says(count: int) -> None:
    ratios = np.random.default_rng(count).permutation(np.arange(1, count + 1))
    found = paired(ratios, np.ones(count))
    below = round(found.low) - 1
    assert found.value == pytest.approx(math.exp(np.median(np.log(ratios))))
    assert round(found.high) == count - below

    def tail(up_to: int) -> Fraction:
        return Fraction(sum(math.comb(count, k) for k in range(up_to + 1)), 2**count)

    assert 2 * tail(below) <= 1 - CONFIDENCE
    assert 2 * tail(below + 1) > 1 - CONFIDENCE


def test_fewer_pairs_than_an_interval_needs_say_nothing() -> None:
    found = paired([2.0] * (FEWEST - 1), [1.0] * (FEWEST - 1))
    assert (found.value, found.low, found.high) == (2.0, 0.0, math.inf)
    assert not found.certain


@pytest.mark.parametrize("shift", SHIFTS)
def test_the_interval_holds_the_true_ratio_as_often_as_it_says(shift: float) -> None:
    """Times are skewed as on a busy machine: most are near the true one, some far above."""
    draw = np.random.default_rng(round(100 * shift))
    held, tries, pairs = 0, 500, 60
    for _ in range(tries):
        one, other = (
            1 + 0.02 * draw.standard_normal(pairs) + 3 * (draw.random(pairs) < 0.2)
            for _ in range(2)
        )
        found = paired(shift * one, other)
        held += found.low <= shift <= found.high
    assert held / tries >= CONFIDENCE - 0.015


def scripted(times: Sequence[Run], called: list[int], index: int) -> Timer:
    """Return what gives runs as they are written down, again and again."""
    position = iter(range(10**9))

    def once() -> Run:
        called.append(index)
        return times[next(position) % len(times)]

    return once


def quiet(seconds: float) -> Run:
    return Run(seconds, seconds, held_up=False)


def test_a_quiet_machine_is_done_soon_and_the_order_of_rounds_alternates() -> None:
    called: list[int] = []
    graphs = [scripted([quiet(0.02)], called, 0), scripted([quiet(0.01)], called, 1)]
    turns = by_turns(graphs, pause=lambda _: pytest.fail("nothing held it up"))
    assert turns.ratio.value == pytest.approx(2.0)
    assert turns.ratio.certain
    assert turns.left_out == 0
    assert FEWEST <= turns.seconds.shape[1] <= 2 * FEWEST
    warm_up = 6
    assert called[warm_up : warm_up + 6] == [0, 1, 1, 0, 0, 1]


def test_rounds_that_were_held_up_do_not_count_and_are_followed_by_a_pause() -> None:
    """Every third run of the second graph waits: over all rounds its median would still be right,
    its interval would not."""
    waited = Run(0.009, 0.001, held_up=True)
    pauses: list[float] = []
    graphs = [
        scripted([quiet(0.002)], [], 0),
        scripted([quiet(0.001), quiet(0.001), waited], [], 1),
    ]
    turns = by_turns(graphs, pause=pauses.append)
    assert (turns.ratio.low, turns.ratio.high) == pytest.approx((2.0, 2.0))
    assert turns.left_out == len(pauses) > 0
    assert turns.spread(1, samples=2).p90 == pytest.approx(0.5)
    assert 0.5 * 0.0055 <= min(pauses) < max(pauses) <= 1.5 * 0.0055


def test_where_every_round_was_held_up_the_time_on_the_processor_counts() -> None:
    graphs = [
        scripted([Run(0.2, 0.02, held_up=True), Run(0.1, 0.02, held_up=True)], [], 0),
        scripted([Run(0.05, 0.01, held_up=True)], [], 1),
    ]
    turns = by_turns(graphs, pause=lambda _: None)
    assert turns.ratio.value == pytest.approx(2.0)
    assert turns.left_out == 0


def test_a_machine_that_is_too_busy_to_tell_is_given_up_in_bounded_time() -> None:
    """The graphs are the same; the noise is larger than the interval may be."""
    draw = np.random.default_rng(0)
    noise = [[quiet(0.01 * float(np.exp(draw.normal(0, 1)))) for _ in range(997)] for _ in "ab"]
    turns = by_turns([scripted(each, [], 0) for each in noise], seconds=3.0)
    assert not turns.ratio.certain
    assert turns.ratio.low < 1 < turns.ratio.high
    assert turns.seconds.sum() <= 3.5
    assert turns.ratio.high / turns.ratio.low > (1 + CLOSE) / (1 - CLOSE)


def test_long_runs_get_the_fewest_rounds() -> None:
    turns = by_turns([scripted([quiet(t)], [], 0) for t in (30.0, 10.0, 10.0)], seconds=5.0)
    assert turns.seconds.shape == (3, FEWEST)
    assert turns.ratio.value == pytest.approx(3.0)


@contextmanager
def one_shared_processor() -> Iterator[None]:
    """Share a single processor with a process that burns."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    burning = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        burning.kill()
        burning.wait()
        os.sched_setaffinity(0, before)


def test_a_run_that_waits_for_its_processor_is_known_and_what_it_computes_told_from_it() -> None:
    session = target.open_session(zoo.path("residual"), threads=1)
    feeds = {name: each.numpy() for name, each in zoo.feeds("residual", batch=64).items()}
    once = clock.timer(session, feeds, threads=1)
    once()
    with one_shared_processor():
        runs = [once() for _ in range(60)]
    held_up = [run for run in runs if run.held_up]
    assert held_up, "half of the processor's time goes to the other"
    assert all(run.computed < 0.95 * run.passed for run in held_up)
    usual = float(np.median([run.computed for run in runs]))
    assert max(run.passed for run in held_up) > usual


SPREAD = {"p10": 1.0, "p90": 1.0, "runs": 8}


def compared(low: float, value: float, high: float, *, certain: bool = True) -> dict[str, Any]:
    return {
        "original": {"median": value, **SPREAD}, "compressed": {"median": 1.0, **SPREAD},
        "speedup": value, "speedup_low": low, "speedup_high": high, "certain": certain,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("latency", "words"),
    [
        (compared(1.85, 1.9, 1.95), "1.90× faster (1.85 to 1.95) with 2 threads"),
        (compared(0.49, 0.5, 0.51), "2.00× SLOWER (1.96 to 2.04) with 2 threads"),
        (compared(0.99, 1.01, 1.02), "the same speed (0.99 to 1.02)"),
        (
            compared(0.6, 1.2, 2.0, certain=False),
            "0.60 to 2.00 times as fast with 2 threads (the machine was too busy to tell better",
        ),
        (
            compared(0.6, 1.2, 2.0, certain=False) | {"one_thread": compared(1.85, 1.9, 1.95)},
            "1.90× faster (1.85 to 1.95) with 1 thread; with 2 threads 0.60 to 2.00 times as fast:",
        ),
    ],
)
def test_the_verdict_gives_the_ratio_with_its_interval_or_says_that_it_could_not_be_told(
    latency: dict[str, Any], words: str
) -> None:
    figures = Measures(
        size_bytes=1, parameters=1, nonzero_parameters=1, macs=1, latency_ms=1.0, quality=None,
        fidelity=None,
    )  # fmt: skip
    layer = LayerChange(node="n", operator="Conv", change="c", bytes_before=4, bytes_after=1)
    step = StepReport(
        index=0, method="quantize", parameters={}, seconds=0, before=figures, after=figures,
        layers=[layer], skipped=[],
    )  # fmt: skip
    evaluation = Evaluation(
        metric=None, split="synthetic", indices=[], threads=2, runtime="it",
        latency=Latency.model_validate(latency),
    )  # fmt: skip
    assert words in verdict.describe(figures, figures, [step], None, evaluation)


def test_the_same_rounds_compare_the_first_graph_with_any_other() -> None:
    seconds = np.repeat([[4.0], [2.0], [1.0]], 10, axis=1)
    turns = Turns(seconds, paired(seconds[0], seconds[-1]), left_out=3)
    alone = comparison(turns.with_first(1), samples=2)
    assert (alone.speedup, alone.left_out, alone.certain) == (2.0, 3, True)
    assert (alone.original.median, alone.compressed.median) == (2000.0, 1000.0)
