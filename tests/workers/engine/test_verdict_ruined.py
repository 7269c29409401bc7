"""A result that does not do what the original does is called so first."""

import pytest

from app.domain.reports import Measures, Worst
from tests.workers.engine.verdicts import how, like, measures, step, with_commonest
from workers.compression.measure import verdict

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
        (measures(0.0, "mse"), like(0.4, 0.85, scores=True).model_copy(
            update={"quality": measures(0.2, "mse").quality}
        )),
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
