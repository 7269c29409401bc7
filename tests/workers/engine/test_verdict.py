"""Requirements are enforced in the metric's own unit, and bad news is said."""

import re

import pytest

from app.domain.latencies import Latency, Spread
from app.domain.metrics import Metric
from app.domain.reports import (
    DropInterval,
    Fidelity,
    Measures,
    OutputKept,
    Worst,
)
from app.domain.steps.prune import Prune
from app.domain.steps.quantize import Quantize
from tests.workers.engine.verdicts import how, like, measures, step, with_commonest
from workers.compression.measure import verdict


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
        ("mse", 5e-16, 0.02, "mse 5e-16 → 0.02 (a drop of more than 1000 times its value)"),
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


@pytest.mark.parametrize("labelled", [True, False])
def test_outputs_that_nothing_judges_are_named_where_they_lost_much(labelled: bool) -> None:
    beside = [
        OutputKept(output=name, explained=kept)
        for name, kept in {"sure": -73.5, "embedding": 0.68, "boxes": 0.95}.items()
    ]
    fidelity = Fidelity(sqnr_db=17.0, agreement=1.0, explained=0.5, beside=beside)
    before = measures(1.0 if labelled else None)
    after = before.model_copy(update={"fidelity": fidelity})
    said = verdict.describe(before, after, [step()], None, how())
    assert "Outputs that are not judged lost much of the original's variance: " in said
    assert "'sure' keeps nothing, 'embedding' keeps 68.0 %" in said
    assert "boxes" not in said
