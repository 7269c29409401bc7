"""Requirements are enforced in the metric's own unit, and bad news is said."""

import re

import pytest

from app.domain.latencies import Comparison, Credited, Latency, Spread
from app.domain.metrics import Metric
from app.domain.reports import (
    DropInterval,
    Evaluation,
    Fidelity,
    LayerChange,
    Measures,
    Quality,
    Split,
    StepReport,
    Worst,
)
from app.domain.steps import Skipped
from app.domain.steps.prune import Prune
from app.domain.steps.quantize import Quantize
from workers.compression.measure import verdict


def measures(
    value: float | None, metric: Metric = "top1", size: int = 100, latency: float = 1.0,
    agreement: float | None = None,
) -> Measures:  # fmt: skip
    quality = None if value is None else Quality(metric=metric, value=value, samples=10)
    fidelity = None if agreement is None else Fidelity(sqnr_db=30.0, agreement=agreement)
    return Measures(
        size_bytes=size, parameters=1, nonzero_parameters=1, macs=1, latency_ms=latency,
        quality=quality, fidelity=fidelity,
    )  # fmt: skip


def how(split: Split = "held_out", latency: Latency | None = None, threads: int = 1) -> Evaluation:
    return Evaluation(
        metric=None, split=split, indices=[], threads=threads, runtime="it", latency=latency
    )


def step(*, changed: bool = True) -> StepReport:
    layer = LayerChange(node="n", operator="Conv", change="c", bytes_before=4, bytes_after=1)
    return StepReport(
        index=0, method="quantize", parameters={}, seconds=0, before=measures(1.0),
        after=measures(1.0), layers=[layer] if changed else [], changed=changed,
        skipped=[Skipped(node="x", reason="it is too old")],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (measures(0.95), measures(0.93), 0.02),
        (measures(2.0, "mse"), measures(2.5, "mse"), 0.25),
        (measures(0.0, "mae"), measures(0.0, "mae"), 0.0),
        (measures(None), measures(None, agreement=0.9), 0.1),
    ],
)
def test_a_drop_is_absolute_for_scores_and_relative_for_errors(
    before: Measures, after: Measures, expected: float
) -> None:
    assert verdict.drop(before, after) == pytest.approx(expected)


def test_a_missed_requirement_is_a_problem_with_its_numbers() -> None:
    missed = verdict.shortfall(measures(0.95), measures(0.90), 0.01)
    assert missed is not None
    details = missed.details().model_dump()
    assert details["type"] == "quality-below-requirement"
    assert (details["metric"], details["baseline"], details["compressed"]) == ("top1", 0.95, 0.90)
    assert details["drop"] == pytest.approx(0.05)
    assert details["allowed"] == 0.01


def test_what_to_ask_for_instead_is_said_of_the_steps_that_were_asked_for() -> None:
    steps = [Prune(ratio=0.5), Quantize(mode="static")]
    missed = verdict.shortfall(measures(0.95), measures(0.90), 0.01, steps)
    assert "To lose less, prune a smaller part" in str(missed)
    assert "quantize fewer layers" in str(missed)
    pruned = verdict.shortfall(measures(0.95), measures(0.90), 0.01, steps[:1])
    assert "quantize" not in str(pruned)
    assert str(pruned).endswith("; or allow a larger drop.")


def test_a_kept_requirement_and_none_at_all_are_no_problem() -> None:
    assert verdict.shortfall(measures(0.95), measures(0.94), 0.01) is None
    assert verdict.shortfall(measures(0.95), measures(0.1), None) is None


def test_slower_and_larger_are_said() -> None:
    after = measures(0.95, size=150)
    spread = Spread(median=1.0, p10=1.0, p90=1.0, runs=8)
    slow = Latency(original=spread, compressed=spread, speedup=0.5)
    words = verdict.describe(measures(0.95), after, [step()], None, how(latency=slow))
    assert re.search(r"1\.50. LARGER, 2\.00. SLOWER", words)


def test_random_inputs_are_said_plainly() -> None:
    after = measures(None, agreement=0.875)
    words = verdict.describe(measures(None), after, [step()], 0.5, how("synthetic"))
    assert ". There is no data, so we compared with the original on random inputs: 87.5 %" in words
    assert "met" in words


def test_a_graph_that_nothing_changed_is_said_with_the_reason() -> None:
    words = verdict.describe(measures(1.0), measures(1.0), [step(changed=False)], None, how())
    assert words == "Nothing was changed. Step 1 (quantize): it is too old ('x')."


def like(
    agreement: float, explained: float, worst: Worst | None = None, *, scores: bool
) -> Measures:
    """Return what is known of a graph without targets."""
    fidelity = Fidelity(
        sqnr_db=30.0, agreement=agreement, explained=explained, worst=worst,
        bounded="agreement" if scores else "explained",
    )  # fmt: skip
    return measures(None).model_copy(update={"fidelity": fidelity})


@pytest.mark.parametrize(("scores", "lost"), [(True, 0.1), (False, 0.3)])
def test_without_targets_equal_answers_or_the_variance_is_bounded(
    scores: bool, lost: float
) -> None:
    after = like(0.9, 0.7, scores=scores)
    assert verdict.drop(measures(None), after) == pytest.approx(lost)
    assert verdict.shortfall(measures(None), after, lost) is None
    missed = verdict.shortfall(measures(None), after, lost - 0.01)
    assert missed is not None
    details = missed.details().model_dump()
    assert details["metric"] == ("agreement" if scores else "explained")
    assert (details["baseline"], details["compressed"]) == (1.0, pytest.approx(1 - lost))


@pytest.mark.parametrize("scores", [True, False])
def test_what_just_misses_is_not_said_to_be_what_is_required(scores: bool) -> None:
    missed = verdict.shortfall(measures(None), like(0.98961, 0.98961, scores=scores), 0.01)
    assert re.search(r"98\.96 % .*; the job requires 99\.00 %", str(missed))


@pytest.mark.parametrize(
    ("samples", "said"),
    [(1, " (1 sample only): "), (6, " (6 samples only): "), (30, ": "), (None, ": ")],
)
def test_a_share_of_few_samples_is_said_with_their_number(samples: int | None, said: str) -> None:
    after = like(5 / 6, 0.93, scores=True)
    assert after.fidelity is not None
    fidelity = after.fidelity.model_copy(update={"samples": samples})
    after = after.model_copy(update={"fidelity": fidelity})
    words = verdict.describe(measures(None), after, [step()], None, how())
    assert f"compared with the original{said}83.3 % of answers are the same." in words


@pytest.mark.parametrize(
    ("bounds", "agreement", "said"),
    [
        ([0.01], 0.98, True),
        ([0.01], 0.99, False),
        ([0.01, 0.01], 0.985, False),
        ([0.01, None], 0.8, False),
        ([None], 0.8, False),
    ],
)
def test_what_its_steps_aimed_at_and_missed_is_said(
    bounds: list[float | None], agreement: float, *, said: bool
) -> None:
    steps = [step().model_copy(update={"own_bound": bound}) for bound in bounds]
    graphs = measures(None), like(agreement, 0.9, scores=True)
    words = verdict.describe(*graphs, steps, None, how())
    aimed = "It lost MORE than 1 point, the most that is aimed at where the job bounds no loss."
    assert words.endswith(aimed) == said
    assert "MORE" not in verdict.describe(*graphs, steps, 0.5, how())


def test_equal_answers_are_said_plainly() -> None:
    words = verdict.describe(measures(None), like(0.9669, 0.9, scores=True), [step()], None, how())
    assert words.endswith(
        ". There are no labels, so we compared with the original: 96.7 % of answers are the same."
    )


@pytest.mark.parametrize("explained", [0.2, -3000.0])
def test_scores_of_unlikely_classes_do_not_speak_where_the_answers_do(explained: float) -> None:
    """A text reader: 97.6 % of its answers are the same, and tiny channels spoil the mean."""
    after = with_commonest(like(0.976, explained, scores=True), 0.7)
    words = verdict.describe(measures(None), after, [step()], None, how())
    assert words.endswith("compared with the original: 97.6 % of answers are the same.")
    assert "variance" not in words
    assert "NOT" not in words


def with_commonest(after: Measures, commonest: float) -> Measures:
    """Return the figures of a graph whose original gives one answer to this share of samples."""
    assert after.fidelity is not None
    fidelity = after.fidelity.model_copy(update={"commonest": commonest})
    return after.model_copy(update={"fidelity": fidelity})


RUINED = [
    (measures(None), like(0.3, 0.9, scores=True)),
    (measures(None), with_commonest(like(0.55, -0.2, scores=True), 0.55)),
    (measures(None), like(0.9, -3324.0, scores=False)),
    (measures(None), with_commonest(like(0.0, 0.8, scores=False), 1.0)),
    (measures(0.95), measures(0.1)),
    (measures(0.02, "cer"), measures(1.3, "cer")),
    (measures(2.0, "mse"), like(0.9, 0.1, scores=False).model_copy(
        update={"quality": measures(9.0, "mse").quality}
    )),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after"), RUINED)
def test_a_result_that_is_ruined_is_called_so_first(before: Measures, after: Measures) -> None:
    words = verdict.describe(before, after, [step()], 0.01, how())
    assert words.startswith("The file does NOT do what the original does. ")
    assert words.endswith(". The same size. The requirement is MISSED.")
    on_random = verdict.describe(before, after, [step()], None, how("synthetic"))
    assert on_random.startswith("On random inputs the file does NOT do what the original does. ")
    assert "tell little" not in on_random, "nothing speaks against what is said first"
    assert on_random.endswith(" To judge it by samples of your own, name a dataset of them.")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (measures(None), like(0.6, 0.6, scores=True)),
        (measures(None), with_commonest(like(0.9, -4.0, scores=True), 0.2)),
        (measures(0.95), measures(0.6)),
        (measures(0.02, "cer"), measures(0.3, "cer")),
        (measures(2.0, "mse"), measures(9.0, "mse")),
        (measures(-1.0, "r2"), measures(-1.5, "r2")),
        (measures(0.9), like(0.95, -40.0, scores=False).model_copy(
            update={"quality": measures(0.9).quality}
        )),
    ],
)  # fmt: skip
def test_a_result_that_lost_much_or_less_is_not_called_ruined(
    before: Measures, after: Measures
) -> None:
    assert "NOT" not in verdict.describe(before, after, [step()], None, how())


def test_answers_that_all_changed_are_said_though_the_original_gives_but_one() -> None:
    worst = Worst(output="y", channel=0, explained=-2.0)
    after = with_commonest(like(0.0, -2.0, worst, scores=False), 1.0)
    words = verdict.describe(measures(None), after, [step()], None, how("synthetic"))
    assert (
        "the original gives all of them the same answer, the result gives the original's to 0.0 %"
        in words
    )
    assert "tell little" not in words


@pytest.mark.parametrize(("commonest", "which"), [(1.0, "all"), (0.96, "96 %")])
def test_answers_that_are_all_the_same_tell_nothing(commonest: float, which: str) -> None:
    worst = Worst(output="y", channel=0, explained=-520.5)
    after = with_commonest(like(1.0, -520.0, worst, scores=False), commonest)
    words = verdict.describe(measures(None), after, [step()], 0.01, how("synthetic"))
    assert (
        f"on random inputs: the original gives {which} of them the same answer, the result gives"
        " the original's to 100.0 %, but the result keeps nothing of the original's variance. "
    ) in words
    assert "The requirement is MISSED. To judge it by samples of your own" in words
    near = with_commonest(like(1.0, 0.8, worst, scores=False), commonest)
    words = verdict.describe(measures(None), near, [step()], None, how("synthetic"))
    assert f"gives {which} of them the same answer, so equal answers tell little, and" in words
    missed = verdict.shortfall(measures(None), after, 0.01)
    assert "keeps nothing of the original's variance; the job requires 99.0 %" in str(missed)
    assert "name a dataset" in str(missed)


@pytest.mark.parametrize(("kept", "said"), [(0.999, "could NOT BE CHECKED"), (0.5, "is MISSED")])
def test_outputs_that_never_vary_keep_no_requirement(kept: float, said: str) -> None:
    after = like(1.0, kept, None, scores=False)
    words = verdict.describe(measures(None), after, [step()], 0.01, how("synthetic"))
    assert "the original's outputs are the same for all of them" in words
    assert f"The requirement {said}" in words


@pytest.mark.parametrize(
    ("explained", "worst", "said"),
    [
        (0.25, None, "the result keeps 25.0 % of the original's variance."),
        (1.0, None, "the result keeps 100.0 % of the original's variance."),
        (0.99996, None, "the result keeps 99.996 % of the original's variance."),
        (-3.0, None, "the result keeps nothing of the original's variance."),
        (
            0.5,
            Worst(output="y", channel=7, explained=-2.0),
            "50.0 % of the original's variance, least in channel 7 of output 'y': nothing.",
        ),
        (
            0.851,
            Worst(output="y", channel=7, explained=-104.0, others=0.9991),
            "lost in channel 7 of output 'y' alone, whose errors are 105 times its own variance:",
        ),
        (
            -40.0,
            Worst(output="y", channel=None, explained=-1e9, others=-3.0),
            "whose errors are over 1000 times its own variance: all others keep nothing.",
        ),
        (
            0.5,
            Worst(output="y", channel=7, explained=-2.0, others=0.6),
            "50.0 % of the original's variance, least in channel 7 of output 'y': nothing.",
        ),
        (
            0.5,
            Worst(output="y", channel=None, explained=0.25),
            "the result keeps 50.0 % of the original's variance, least in output 'y': 25.0 %.",
        ),
        (
            0.5,
            Worst(output="y", channel=0, explained=0.5),
            "the result keeps 50.0 % of the original's variance.",
        ),
    ],
)
def test_the_variance_that_is_kept_is_said_with_the_worst_channel(
    explained: float, worst: Worst | None, said: str
) -> None:
    worst = worst or Worst(output="y", channel=0, explained=explained)
    after = like(0.9, explained, worst, scores=False)
    assert said in verdict.describe(measures(None), after, [step()], None, how())


def test_a_report_from_before_the_figure_is_judged_by_agreement() -> None:
    after = measures(None, agreement=0.9)
    assert after.fidelity is not None
    old = after.model_copy(
        update={"fidelity": after.fidelity.model_copy(update={"bounded": "explained"})}
    )
    assert verdict.drop(measures(None), old) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("metric", "before", "after", "said"),
    [
        ("top1", 0.95, 0.93, "top1 0.95 → 0.93 (a drop of 2 points)"),
        ("r2", 0.5, 0.75, "r2 0.5 → 0.75 (a gain of 25 points)"),
        ("cer", 0.02, 0.05, "cer 0.02 → 0.05 (a drop of 3 points)"),
        ("mse", 2.0, 2.5, "mse 2 → 2.5 (a drop of 25.00 % of its value)"),
        ("mae", 2.0, 1.0, "mae 2 → 1 (a gain of 50.00 % of its value)"),
        ("mse", 0.0, 0.5, "mse 0 → 0.5 (a drop of more than any bound, as it was 0)"),
        ("iou", 0.25, 0.25, "iou 0.25 → 0.25 (unchanged)"),
    ],
)
def test_a_metric_is_said_in_its_own_unit(
    metric: Metric, before: float, after: float, said: str
) -> None:
    graphs = measures(before, metric), measures(after, metric)
    words = verdict.describe(*graphs, [step()], None, how())
    assert words.endswith(f"{said}.")
    words = verdict.describe(*graphs, [step()], 0.0, how())
    missed = "a drop" in said
    assert words.endswith("The requirement is MISSED." if missed else "The requirement is met.")


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [(1000, 1000, "the same size"), (1000, 996, "the same size"), (1000, 500, "2.00× smaller")],
)
def test_a_size_that_hardly_changed_is_called_the_same(before: int, after: int, said: str) -> None:
    graphs = measures(0.9, size=before), measures(0.9, size=after)
    assert verdict.describe(*graphs, [step()], None, how()).startswith(said)


def test_a_figure_that_only_one_of_two_graphs_has_tells_nothing() -> None:
    known, unknown = measures(0.95), measures(None, agreement=0.875)
    for pair in ((known, unknown), (unknown, known)):
        words = verdict.describe(*pair, [step()], None, how())
        assert "There are no labels, so we compared with the original" in words
    assert verdict.drop(known, unknown) == pytest.approx(0.125)
    assert verdict.drop(unknown, known) == 0


def test_random_inputs_are_not_called_missing_labels() -> None:
    after = measures(None, agreement=0.875)
    words = verdict.describe(measures(None), after, [step()], None, how("synthetic"))
    assert "There is no data, so we compared with the original on random inputs" in words


@pytest.mark.parametrize(("allowed", "kept"), [(0.05, True), (0.0499, False)])
def test_a_drop_of_just_what_is_allowed_keeps_the_requirement(allowed: float, kept: bool) -> None:
    missed = verdict.shortfall(measures(0.95), measures(0.90), allowed)
    assert (missed is None) is kept


def test_an_error_that_rose_from_nothing_is_a_drop_without_a_number() -> None:
    missed = verdict.shortfall(measures(0.0, "mse"), measures(1.0, "mse"), 0.5)
    assert missed is not None
    assert missed.details().model_dump()["drop"] is None


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


def test_what_is_unexpected_of_a_step_is_said_with_its_number() -> None:
    odd = step().model_copy(update={"index": 1, "notes": ["It changed nothing."]})
    words = verdict.describe(measures(0.9), measures(0.9), [step(), odd], None, how())
    assert words.splitlines()[0].endswith("(unchanged).")
    assert words.splitlines()[1:] == ["Step 2 (quantize): It changed nothing."]


@pytest.mark.parametrize(
    ("after", "drop", "said"),
    [
        (0.93, (-0.008, 0.034), "a drop of 2 points; on other samples −0.80 to 3.40 points"),
        (0.97, (-0.034, 0.008), "a gain of 2 points; on other samples −0.80 to 3.40 points"),
        (0.95, (-0.01, 0.01), "unchanged; on other samples −1.00 to 1.00 points"),
    ],
)
def test_a_drop_on_few_samples_says_what_it_may_be_on_others(
    after: float, drop: tuple[float, float], said: str
) -> None:
    evaluation = how().model_copy(update={"drop": DropInterval(low=drop[0], high=drop[1])})
    words = verdict.describe(measures(0.95), measures(after), [step()], None, evaluation)
    assert f"({said}, with 95 % confidence)" in words


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
