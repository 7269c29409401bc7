"""Widths and bits that are learned in episodes, on a trained network."""

import pytest
from pydantic import ValidationError

from app.domain.problems import StepFailed
from app.domain.steps import Prune, Quantize
from tests.workers.digits import Trained
from workers.compression.graph import runtime, stats
from workers.compression.graph.load import load
from workers.compression.learning import episodes
from workers.compression.measure.reference import Reference
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.prune import learned
from workers.compression.methods.quantize import quantize
from workers.compression.samples.context import Context


@pytest.fixture(autouse=True)
def few_episodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(episodes, "EPISODES", 24)


def explained(trained: Trained, outcome: Outcome) -> float:
    """How near the outputs are on the samples that episodes are judged on."""
    samples = trained.train.draw(64, 0)
    with runtime.in_file(outcome.model) as path:
        return Reference(trained.path, samples, 1).explained(path)


def test_learned_widths_meet_the_ratio_and_are_no_further_away(trained: Trained) -> None:
    macs = stats.measure(load(trained.path), {"batch": 1}).macs
    near = {}
    for scope in ("global", "learned"):
        outcome = trained.prune(ratio=0.6, scope=scope, criterion="magnitude", reconstruct=False)
        assert stats.measure(outcome.model, {"batch": 1}).macs <= 0.4 * macs
        near[scope] = explained(trained, outcome)
    assert near["learned"] >= near["global"]


def test_learning_widths_shows_its_progress_in_each_attempt_at_a_time() -> None:
    said: list[float] = []
    spans = learned.halves(said.append)
    for _ in range(3):
        advance = next(spans)
        advance(0.0)
        advance(1.0)
    assert said == [0.0, 0.5, 0.5, 0.75, 0.75, 0.875], "it goes on, and never back"


def stored(trained: Trained, **parameters: object) -> Outcome:
    step = Quantize(mode="weight_only", unpack="load", **parameters)  # type: ignore[arg-type]
    context = Context(trained.train, seed=0, threads=1, original=trained.path)
    return quantize(load(trained.path), step, context, lambda _: None)


def test_learned_bits_meet_the_ratio_and_are_nearer_than_four_bits(trained: Trained) -> None:
    outcome = stored(trained, ratio=0.8)
    before = sum(layer.bytes_before for layer in outcome.layers)
    assert sum(layer.bytes_after for layer in outcome.layers) <= 0.2 * before
    four_bits = stored(trained, weights="int4", learn_rounding=False)
    assert explained(trained, outcome) > explained(trained, four_bits)


def test_bits_that_do_not_reach_the_ratio_are_refused(trained: Trained) -> None:
    with pytest.raises(StepFailed, match="less than the 95%"):
        stored(trained, ratio=0.95)


@pytest.mark.parametrize(
    ("method", "values"),
    [
        (Prune, {"scope": "learned", "granularity": "unstructured"}),
        (
            Prune,
            {"scope": "learned", "schedule": "iterative", "recover": {"epochs": 2}},
        ),
        (Quantize, {"mode": "weight_only", "ratio": 0.5}),
    ],
)
def test_what_is_not_learned_is_refused(
    method: type[Prune | Quantize], values: dict[str, object]
) -> None:
    with pytest.raises(ValidationError, match="use "):
        method.model_validate(values)


def test_learning_needs_inputs() -> None:
    assert Prune(scope="learned", criterion="magnitude").needs.data == "inputs"
    step = Quantize(mode="weight_only", unpack="load", ratio=0.5)
    assert step.needs.data == "inputs"
