"""A speed is said with what is known of it, and with what is to thank for it."""

import pytest

from app.domain.latencies import Comparison, Credited, Latency, Spread
from tests.workers.engine.verdicts import how, measures, step
from workers.compression.measure import verdict

TOO_BUSY = "at a speed that the machine was too busy to tell (run it again when it is idle)"


def compared(
    speedup: float, low: float | None, high: float | None, *, certain: bool = True
) -> Comparison:
    spread = Spread(median=1.0, p10=1.0, p90=1.0, runs=8)
    return Comparison(
        original=spread, compressed=spread, speedup=speedup, speedup_low=low, speedup_high=high,
        certain=certain,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("threads", "one_thread", "said"),
    [
        (compared(2.0, 1.95, 2.05), None, "2.00× faster (1.95 to 2.05) with 2 threads"),
        (compared(0.5, 0.4, 0.625), None, "2.00× SLOWER (1.60 to 2.50) with 2 threads"),
        (compared(1.02, 1.01, 1.03), None, "the same speed (1.01 to 1.03) with 2 threads"),
        (compared(2.0, None, None), None, "2.00× faster with 2 threads"),
        (compared(2.0, None, 2.05), None, "2.00× faster with 2 threads"),
        (compared(2.0, 1.999, 2.001), None, "2.00× faster with 2 threads"),
        (
            compared(0.8, 0.79, 0.81),
            compared(1.4, 1.39, 1.41),
            (
                "1.25× SLOWER (1.23 to 1.27) with 2 threads; 1.40× faster (1.39 to 1.41) with 1"
                " thread"
            ),
        ),
        (
            compared(2.0, 1.95, 2.05),
            compared(1.4, 1.39, 1.41),
            "2.00× faster (1.95 to 2.05) with 2 threads",
        ),
        (
            compared(2.0, 0.03, 23.4, certain=False),
            None,
            TOO_BUSY,
        ),
        (
            compared(2.0, 1.5, 2.5, certain=False),
            compared(3.0, 2.9, 3.1),
            (
                "3.00× faster (2.90 to 3.10) with 1 thread; with 2 threads 1.50 to 2.50 times as"
                " fast: the machine was too busy to tell better"
            ),
        ),
        (
            compared(2.0, 0.03, 23.4, certain=False),
            compared(3.0, 2.9, 3.1),
            (
                "3.00× faster (2.90 to 3.10) with 1 thread; with 2 threads the machine was too busy"
                " to tell"
            ),
        ),
        (
            compared(2.0, 1.35, 2.32, certain=False),
            None,
            (
                "1.35 to 2.32 times as fast with 2 threads (the machine was too busy to tell"
                " better: run it again when it is idle)"
            ),
        ),
        (
            compared(2.0, None, None, certain=False),
            compared(3.0, 1.0, 5.0, certain=False),
            TOO_BUSY,
        ),
    ],
)
def test_a_speed_is_said_with_what_is_known_of_it(
    threads: Comparison, one_thread: Comparison | None, said: str
) -> None:
    alone = one_thread and Credited(**dict(one_thread))
    latency = Latency(**dict(threads), one_thread=alone)
    graphs = measures(0.9, size=1000), measures(0.9, size=500)
    words = verdict.describe(*graphs, [step()], None, how(latency=latency, threads=2))
    assert words.startswith(f"2.00× smaller, {said}. top1 0.9 → 0.9 (unchanged).")


@pytest.mark.parametrize(
    ("speedup", "tidied", "certain", "said"),
    [
        (1.5, 1.2, True, ", 1.20× of it by tidying the graph, which changes no weight"),
        (1.3, 1.29, True, ", all of it by tidying the graph, which changes no weight"),
        (1.02, 1.05, True, ""),
        (1.5, 1.02, True, ""),
        (1.5, 1.2, False, ""),
        (0.8, 1.2, True, ""),
    ],
)
def test_speed_that_changes_no_weight_is_told_apart(
    speedup: float, tidied: float, *, certain: bool, said: str
) -> None:
    spread = Spread(median=1.0, p10=1.0, p90=1.0, runs=10)
    alone = Comparison(original=spread, compressed=spread, speedup=tidied, certain=certain)
    found = Latency(original=spread, compressed=spread, speedup=speedup, tidied=alone)
    words = verdict.describe(measures(0.95), measures(0.95), [step()], None, how(latency=found))
    assert f"with 1 thread{said}. " in words
