"""Strategies on models that are made up: what they may propose, in which order, and how well."""

import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.domain.jobs import JobRequest
from app.domain.layer_forms import held_by_all
from app.domain.models import Layer
from app.domain.searches import Goal, Outcome, StrategyName
from app.domain.steps import METHODS, AnyStep, Outlook, Quantize
from tests.workers.search.charts import chart
from tests.workers.search.landscapes import landscape
from workers.search.choices import Choose, Genome, at_random
from workers.search.history import Trial, merit
from workers.search.space import MAX_STEPS, Facts, Space
from workers.search.strategies import STAND_IN, STRATEGIES, WHOLE, ask, halving, spelled

GOALS: tuple[Goal, ...] = get_args(Goal)
LAYERS = [
    Layer(name="conv", operator="Conv", parameters=300_000, macs=10**8),
    Layer(name="fc", operator="Gemm", parameters=100_000, macs=10**6),
]
OUTLOOK = Outlook(layers=LAYERS, size_bytes=1_600_000, macs=101_000_000, samples=1000)


def facts(goal: Goal = "latency", **changes: object) -> Facts:
    known: dict[str, object] = {
        "goal": goal,
        "bound": 0.01,
        "outlook": OUTLOOK,
        "data": "targets",
        "trainable": True,
        "trials": 20,
        "share": 0.5,
    }
    return Facts(**{**known, **changes})  # type: ignore[arg-type]


def judged(steps: list[AnyStep], bound: float = 0.01) -> Outcome:
    """A network that bears a little of everything, and more with longer training."""
    cost, drop = 1.0, -0.002
    for step in steps:
        epochs = step.recover.epochs if step.recover else 0.3
        match step.method:
            case "prune":
                share = step.ratio if step.granularity == "channel" else step.sparsity / 2
                cost *= 1 - 0.9 * share
                drop += 0.12 * share**3 / epochs**0.5
            case "low_rank":
                cost *= 1 - 0.5 * step.ratio
                drop += 0.1 * step.ratio**2 / epochs**0.5
            case "quantize":
                cost *= 0.5
                drop += 0.003
            case "cluster":
                cost *= 0.4
                drop += 0.004
            case "subnet":
                cost *= 1 - step.ratio
                drop += 0.1 * step.ratio**3
            case "distill":
                cost *= 0.5
                drop += 0.1 / epochs**0.5
    holds = drop <= bound
    return Outcome(seconds=1, cost=cost, drop=drop, holds=holds, pays=holds and cost < 1)


def broken(_: list[AnyStep]) -> Outcome:
    """Say of any pipeline that it could not be done."""
    return Outcome(seconds=1, problem="step-failed")


def run(
    strategy: StrategyName,
    space: Space,
    trials: int,
    seed: int = 0,
    judge: Callable[[list[AnyStep]], Outcome] = judged,
) -> list[Trial]:
    """Search with one worker, whose trials are judged at once."""
    history: list[Trial] = []
    while len(history) < trials:
        proposal = ask(strategy, space, history, seed)
        if proposal is None:
            break
        history.append(Trial(proposal.steps, proposal.note, judge(proposal.steps)))
    return history


def best_cost(history: list[Trial]) -> float:
    return min((trial.cost for trial in history if trial.holds), default=1.0)


def test_every_name_has_a_strategy() -> None:
    assert set(STRATEGIES) == set(get_args(StrategyName))


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
def test_every_method_declares_what_a_search_varies(method: type[AnyStep]) -> None:
    fields = method.model_fields.values()
    extras = [each.json_schema_extra for each in fields]
    assert any("search" in extra for extra in extras if isinstance(extra, dict))


@pytest.mark.parametrize("goal", GOALS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_pipelines_make_sense_are_new_and_the_same_for_the_same_seed(
    strategy: StrategyName, goal: Goal
) -> None:
    space = Space(facts(goal))
    history = run(strategy, space, 12)
    assert len(history) == 12
    assert len({spelled(trial.steps) for trial in history}) == 12
    for trial in history:
        assert space.fits(trial.steps)
        assert len(trial.steps) <= MAX_STEPS
        assert [step.place for step in trial.steps] == sorted(step.place for step in trial.steps)
    again = run(strategy, space, 12)
    assert [spelled(trial.steps) for trial in again] == [spelled(trial.steps) for trial in history]


@pytest.mark.parametrize("goal", GOALS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_trials_get_what_the_target_asks_for_as_any_job_does(
    strategy: StrategyName, goal: Goal
) -> None:
    history = run(strategy, Space(facts(goal, target="cuda")), 10)
    asked = {"activations", "symmetric", "per_channel", "multiple"}
    for trial in history:
        steps = [step.model_dump(mode="json", exclude=asked) for step in trial.steps]
        job = JobRequest.model_validate({"model": "mdl", "target": "cuda", "steps": steps})
        assert job.steps == trial.steps
        for step in trial.steps:
            if step.method == "quantize":
                assert (step.activations, step.symmetric) == ("int8", True)
            if step.method in ("prune", "subnet", "distill"):
                assert step.multiple == 16
    assert len({spelled(trial.steps) for trial in history}) == len(history)


def test_networks_are_taken_out_of_one_supernet() -> None:
    space = Space(facts("macs"))
    history = run("once_for_all", space, 8)
    assert len(history) == 8
    assert len({trial.steps[0].model_dump_json() for trial in history}) == 1, "always the same"
    assert all([each.method for each in t.steps] == ["supernet", "subnet"] for t in history)
    training = history[0].steps[0].recover
    assert training is not None
    assert training.minutes == 5, "half of the budget"


def epochs(trial: Trial) -> int:
    return max(step.recover.epochs for step in trial.steps if step.recover is not None)


def test_longer_trainings_are_for_the_best_of_shorter_ones() -> None:
    space = Space(facts("size", share=1.0))
    history = run("halving", space, 60)
    rounds = [[t for t in history if t.note["round"] == place] for place in range(4)]
    assert [len(each) > 0 for each in rounds] == [True] * 4
    assert all(len(more) >= 2 * len(fewer) for more, fewer in pairwise(rounds))
    for place, each in enumerate(rounds[1:], 1):
        assert {epochs(trial) for trial in each} == {halving.EPOCHS[place]}
        before = sorted(merit(trial, 0.01) for trial in rounds[place - 1])
        chosen = [t.note["genome"] for t in each]
        worst = max(merit(t, 0.01) for t in rounds[place - 1] if t.note["genome"] in chosen)
        assert worst <= before[2 * len(before) // 3], "none of the worst third goes on"


def test_what_has_no_figures_is_not_trained_for_longer() -> None:
    history = run("halving", Space(facts()), 12, judge=broken)
    assert {trial.note["round"] for trial in history} == {0}


def test_networks_wait_for_their_supernet() -> None:
    space = Space(facts())
    history = run("once_for_all", space, 1)
    assert [step.method for step in history[0].steps] == ["quantize"], "bits alone come first"
    running = ask("once_for_all", space, history, 0)
    assert running is not None
    begun = Trial(running.steps, running.note)
    assert running.steps[0].method == "supernet"
    assert ask("once_for_all", space, [*history, begun], 0) is None


@pytest.mark.parametrize("strategy", sorted(set(STRATEGIES) - WHOLE))
def test_nothing_trains_where_nothing_can(strategy: StrategyName) -> None:
    history = run(strategy, Space(facts(data="none", trainable=False)), 8)
    assert len(history) == 8
    for step in (step for trial in history for step in trial.steps):
        assert step.recover is None
        assert step.needs.data == "none"


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_file_for_another_runtime_gets_no_operators_of_onnxruntime_alone(
    strategy: StrategyName,
) -> None:
    history = run(strategy, Space(facts("size", forms=held_by_all(["onnx", "litert"]))), 10)
    forms = {step.layer_form for trial in history for step in trial.steps}
    assert forms <= {"static", None}


def test_layers_stay_where_weights_are_to_go_back_to_the_source() -> None:
    history = run("guided", Space(facts(to_source=True)), 10)
    assert {step.method for trial in history for step in trial.steps} >= {"prune", "quantize"}
    assert not any(step.method == "low_rank" for trial in history for step in trial.steps)


def test_a_model_without_layers_leaves_nothing_to_try() -> None:
    empty = OUTLOOK.model_copy(update={"layers": []})
    assert ask("guided", Space(facts(outlook=empty)), [], 0) is None


@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(
    strategy=st.sampled_from(["guided", "random", "evolution", "nsga2"]),
    goal=st.sampled_from(GOALS),
    seed=st.integers(0, 1000),
    luck=st.integers(0, 1000),
    at_once=st.integers(1, 3),
)
def test_no_pipeline_is_tried_twice_whatever_trials_come_to(
    strategy: StrategyName, goal: Goal, seed: int, luck: int, at_once: int
) -> None:
    """Trials end in any order, with any figures or none."""
    chance = random.Random(luck)
    space = Space(facts(goal))
    history: list[Trial] = []
    for _ in range(10):
        for _ in range(at_once):
            proposal = ask(strategy, space, history, seed)
            assert proposal is not None
            history.append(Trial(proposal.steps, proposal.note))
        at = chance.choice([at for at, trial in enumerate(history) if not trial.known])
        cost, drop = chance.uniform(0.1, 1.5), chance.uniform(-0.1, 0.1)
        outcome = Outcome(seconds=1, cost=cost, drop=drop, holds=drop <= 0.01)
        if chance.random() < 0.2:
            outcome = Outcome(seconds=1, problem="step-failed")
        history[at] = Trial(history[at].steps, history[at].note, outcome)
    assert len({spelled(trial.steps) for trial in history}) == len(history)
    assert all(space.fits(trial.steps) for trial in history)


def test_the_guided_search_begins_with_the_bits_that_layers_bear() -> None:
    history = run("guided", Space(facts()), 2)
    assert history[0].steps == [Quantize(prefer="speed")]


@pytest.mark.parametrize("strategy", ["guided", "amc"])
@pytest.mark.parametrize(
    ("known", "counted"),
    [
        ({"goal": "latency"}, "latency"),
        ({"goal": "latency", "timed_here": False}, "macs"),
        ({"goal": "size"}, "size"),
    ],
    ids=["the worker's times", "another runtime's times", "bytes"],
)
def test_shares_are_of_what_is_minimised(
    strategy: StrategyName, known: dict[str, Any], counted: str
) -> None:
    """Of times the measured ones of layers count; they say nothing of a device's."""
    steps = [
        step
        for trial in run(strategy, Space(facts(**known)), 10)
        for step in trial.steps
        if step.method == "low_rank" or (step.method == "prune" and step.granularity == "channel")
    ]
    assert steps
    assert {step.of for step in steps} == {counted}


BUDGETS = (6, 12)
TABLES = 20


@pytest.mark.parametrize("goal", GOALS)
def test_the_guided_search_is_as_good_as_chance_on_nine_of_ten_networks(goal: Goal) -> None:
    """Networks of tables that no strategy knows, with few trials and with more, of any length."""
    space = Space(facts(goal, share=60.0))
    guided, chance = (
        [run(name, space, BUDGETS[-1], seed, landscape(goal, seed)) for seed in range(TABLES)]
        for name in ("guided", "random")
    )
    for trials in BUDGETS:
        costs = [[best_cost(each[:trials]) for each in found] for found in (guided, chance)]
        wins = sum(ours <= theirs for ours, theirs in zip(*costs, strict=True))
        assert wins >= 0.9 * TABLES, f"{wins} of {TABLES} with {trials} trials"
        assert sum(costs[0]) < 0.7 * sum(costs[1])


def test_the_guided_search_reaches_most_of_its_gain_in_half_of_its_trials() -> None:
    space = Space(facts("macs", share=60.0))
    for seed in range(5):
        history = run("guided", space, 20, seed, landscape("macs", seed))
        assert 1 - best_cost(history[:10]) >= 0.9 * (1 - best_cost(history))


def test_learned_bits_are_as_good_as_chance_and_go_on_by_themselves() -> None:
    """Bits end at an eighth of a file; beyond it channels go, as chance may take them too."""
    space = Space(facts("size", share=60.0))
    learned, chance = (
        [run(name, space, BUDGETS[-1], seed, landscape("size", seed)) for seed in range(TABLES)]
        for name in ("haq", "random")
    )
    for trials in BUDGETS:
        costs = [[best_cost(each[:trials]) for each in found] for found in (learned, chance)]
        assert sum(costs[0]) <= sum(costs[1])
    assert not any(STAND_IN in trial.note for each in learned for trial in each)


def test_what_bears_nothing_is_left_as_it_is() -> None:
    def ruin(_: list[AnyStep]) -> Outcome:
        return Outcome(seconds=1, cost=0.5, drop=0.5)

    history = run("guided", Space(facts("macs")), 15, judge=ruin)
    assert len(history) == 15
    assert not any(trial.holds for trial in history)
    amounts = [sum(trial.note["amounts"].values()) for trial in history]
    assert min(amounts[8:]) < min(amounts[:2]), "less and less is taken away"


def test_trainings_are_shorter_where_the_budget_has_less_time() -> None:
    def slow(steps: list[AnyStep]) -> Outcome:
        epochs = max(step.recover.epochs if step.recover else 0 for step in steps)
        return judged(steps).model_copy(update={"seconds": 10.0 * epochs})

    def epochs(share: float) -> int:
        history = run("guided", Space(facts("macs", share=share)), 8, judge=slow)
        return sum(step.recover.epochs for each in history for step in each.steps if step.recover)

    assert epochs(0.5) < 0.5 * epochs(60.0)


@pytest.mark.parametrize("strategy", ["guided", "random", "evolution", "tpe"])
def test_the_trainings_of_a_trial_take_two_shares_of_the_minutes_together(
    strategy: StrategyName,
) -> None:
    known = facts("size", share=3.0)
    trained = [
        [step.recover.minutes for step in trial.steps if step.recover]
        for trial in run(strategy, Space(known), 12)
    ]
    assert max(map(len, trained)) > 1
    assert max(map(sum, trained)) <= 2 * 3.0 + 0.01


def test_what_cannot_be_done_is_not_asked_for_again() -> None:
    """Some networks set a method a limit: what is beyond it fails."""

    def limited(steps: list[AnyStep]) -> Outcome:
        beyond = any(step.method == "low_rank" and step.ratio > 0.3 for step in steps)
        return broken(steps) if beyond else judged(steps)

    history = run("guided", Space(facts("macs", share=60.0)), 12, judge=limited)
    assert sum(trial.drop == float("inf") for trial in history) <= 3


def test_a_search_in_which_nothing_works_goes_on() -> None:
    assert len(run("guided", Space(facts()), 10, judge=broken)) == 10


def test_a_chart_tells_how_much_to_begin_with() -> None:
    def first(cost: float) -> float:
        space = Space(facts("macs", chart=chart(cost)))
        return float(sum(run("guided", space, 1)[0].note["amounts"].values()))

    assert first(1e-4) > first(0.9)


def repeating(genome: Genome) -> Choose:
    """Choose what was chosen before."""
    return lambda name, _: genome[name]


def test_choices_of_a_pipeline_lead_back_to_it() -> None:
    space = Space(facts("size"))
    rng = random.Random(0)
    for (steps, _), _ in zip(space.draws(lambda: at_random(rng)), range(30), strict=False):
        genome = space.genome(steps)
        drawn = space.draw(repeating(genome))
        assert drawn is not None
        assert spelled(drawn[0]) == spelled(steps)
