"""What a step measured of its graph is taken by a later one that prefers something else."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from app.domain.directory import GRAPH, MOST_PRICE_BYTES, PRICES, FinishedStep
from app.domain.reports import LayerChange
from app.domain.steps import Quantize
from tests.workers.engine.stored import named, store_graph
from tests.workers.intake.models import tensor, value
from workers.compression import price_list, steps
from workers.compression.graph.editor import constant
from workers.compression.graph.fingerprint import fingerprint
from workers.compression.measure.ratio import Ratio
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.quantize import exclusions, selection
from workers.compression.methods.quantize.calibrated import Calibrated
from workers.compression.methods.quantize.exclusions import TOO_BUSY, unprofitable
from workers.compression.methods.quantize.integers import range_grid
from workers.compression.methods.quantize.kept import kept_calibration
from workers.compression.price_list import Entry, PriceList
from workers.compression.samples.context import Context, Samples

RNG = np.random.default_rng(3)
EQUAL, UNCLEAR = Ratio(1.0, 0.99, 1.01), Ratio(1.1, 0.6, 1.9)


@dataclass(frozen=True)
class Earlier:
    """A step that ran, and the data that it ran on."""

    context: Context
    directory: Path
    finished: FinishedStep


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Earlier:
    """A step on a graph whose channels are so uneven that its constants are changed."""
    directory = tmp_path_factory.mktemp("earlier")
    shapes = {"w1": (16, 3, 3, 3), "b1": (16,), "w2": (32, 16, 3, 3), "b2": (32,), "w3": (32, 4)}
    weights = [
        tensor(name, (RNG.standard_normal(shape) / 8).astype(np.float32))
        for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["a"], pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("Conv", ["r", "w2", "b2"], ["c"], pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("GlobalAveragePool", ["d"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "w3"], ["y"]),
    ]
    path = directory / "model.onnx"
    store_graph(path, nodes, [value("x", "N", 3, 8, 8)], [value("y", "N", 4)], weights)
    x = RNG.standard_normal((64, 3, 8, 8)).astype(np.float32)
    samples = Samples({"x": x}, None, range(48))
    context = Context(samples, seed=0, threads=1, example=samples.first_run(), original=path)
    first = directory / "first"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exclusions, "time_ratio", lambda *_: EQUAL)  # a busy machine cannot tell
        return Earlier(context, first, run(context, first, prefer="size"))


def run(context: Context, directory: Path, **parameters: object) -> FinishedStep:
    """Run a step on the graph of a context."""
    assert context.original is not None
    step = Quantize.model_validate(parameters)
    return steps.run(context.original, directory, step, context, lambda _: None)


def with_prices(earlier: Earlier, directory: Path) -> Path:
    """Put the price list of a step into the directory of another one."""
    directory.mkdir()
    (directory / PRICES).write_bytes((earlier.directory / PRICES).read_bytes())
    return directory


def test_the_same_graph_is_made_again_without_a_measurement(
    earlier: Earlier, tmp_path: Path
) -> None:
    first, directory = earlier.finished, with_prices(earlier, tmp_path / "again")
    again = run(earlier.context, directory, prefer="size")
    assert not [note for note in first.notes if "price list" in note]
    assert "entries of the model's price list were taken" in again.notes[-1]
    assert again.notes[-1].endswith("; 0 were added.")
    assert again.notes[:-1] == first.notes
    assert (again.layers, again.choices) == (first.layers, first.choices)
    graphs = [(each / GRAPH).read_bytes() for each in (earlier.directory, directory)]
    assert graphs[0] == graphs[1]


def test_another_preference_and_bound_take_the_calibration(
    earlier: Earlier, tmp_path: Path
) -> None:
    directory = with_prices(earlier, tmp_path / "other")
    other = run(replace(earlier.context, max_quality_drop=0.5), directory, prefer="speed")
    assert "entries of the model's price list were taken" in other.notes[-1]


def test_prices_of_another_graph_are_not_kept_nor_is_what_a_hurry_made(
    earlier: Earlier, tmp_path: Path
) -> None:
    hurried = run(replace(earlier.context, deadline=0.0), tmp_path / "hurried")
    assert not hurried.settled, "with more time it may come to more"
    assert not (tmp_path / "hurried" / PRICES).exists()
    assert Quantize(mode="static").priced is None
    made = PriceList("a graph")
    made.figures("time", list[float], lambda: [1.5])
    made.write(tmp_path / PRICES)
    assert PriceList.read(tmp_path / PRICES, "a graph").earlier
    assert not PriceList.read(tmp_path / PRICES, "another graph").earlier


def test_what_a_busy_machine_could_not_tell_is_timed_again(
    earlier: Earlier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert earlier.context.original is not None
    graph = named(earlier.context.original)
    layer = LayerChange(node="n", operator="Conv", change="c", bytes_before=4, bytes_after=1)

    def notes(prices: PriceList, timed: Ratio) -> list[str]:
        monkeypatch.setattr(exclusions, "time_ratio", lambda *_: timed)
        context = replace(earlier.context, prices=prices)
        return unprofitable(lambda _: Outcome(graph, [layer]), graph, {}, context).notes

    busy = PriceList("g")
    [note] = notes(busy, UNCLEAR)
    assert note.startswith(TOO_BUSY)
    busy.write(tmp_path / PRICES)
    assert notes(PriceList.read(tmp_path / PRICES, "g"), UNCLEAR) == [note]
    assert notes(PriceList.read(tmp_path / PRICES, "g"), EQUAL) == []


def test_a_step_that_a_busy_machine_could_not_measure_is_not_settled(
    earlier: Earlier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert earlier.finished.settled
    monkeypatch.setattr(selection, "is_trivial", lambda *_: False)
    monkeypatch.setattr(exclusions, "time_ratio", lambda *_: UNCLEAR)
    step = run(earlier.context, tmp_path / "busy", mode="static")
    assert any(note.startswith(TOO_BUSY) for note in step.notes)
    assert not step.settled


def changed(model: ir.Model) -> ir.Model:
    """Return a copy of a graph with other weights, as smoothing and equalization leave it."""
    copy = model.clone()
    weight = copy.graph.initializers["w1"]
    weight.const_value = ir.tensor(constant(weight) * np.float32(2), name="w1")
    return copy


def static(prefer: str, ranges: str | None = None) -> Quantize:
    """Return the parameters that ``auto`` calibrates with."""
    return Quantize().model_copy(update={"mode": "static", "prefer": prefer, "ranges": ranges})


@pytest.mark.parametrize(
    ("is_changed", "prefers", "later_prefers"),
    [(True, "balanced", "size"), (False, "size", "balanced")],
)
def test_a_calibration_comes_back_as_it_was_whatever_is_preferred(
    earlier: Earlier, tmp_path: Path, *, is_changed: bool, prefers: str, later_prefers: str
) -> None:
    assert earlier.context.original is not None
    given = named(earlier.context.original)
    made = Calibrated(
        changed(given) if is_changed else given,
        static(prefers, ranges="mse"),
        {"x": range_grid(-1.3, 7, "uint8", symmetric=False),
         "a": range_grid(-1, 2, "uint4", symmetric=True)},
        {"n": "smoothed"},
        {"n": np.arange(3, dtype=np.float32)},
        {"n": np.ones((2, 3), np.float32), "m": np.zeros(1, np.float32)},
        ("A note.",),
    )  # fmt: skip
    prices = PriceList("g")
    first = replace(earlier.context, prices=prices)
    kept_calibration(lambda: made, given, static(prefers), first)
    prices.write(tmp_path / PRICES)
    later = replace(earlier.context, prices=PriceList.read(tmp_path / PRICES, "g"))
    back = kept_calibration(lambda: pytest.fail("it is known"), given, static(later_prefers), later)
    assert fingerprint(back.model) == fingerprint(made.model)
    assert (back.model is given) != is_changed
    assert back.parameters == static(later_prefers, ranges="mse")
    assert (back.smoothed, back.notes) == (made.smoothed, made.notes)
    for ours, theirs in ((back.shifts, made.shifts), (back.rounded, made.rounded)):
        assert list(ours) == list(theirs)
        assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
    for name, grid in made.grids.items():
        again = back.grids[name]
        assert (again.scale, again.zero_point, again.limits) == (
            grid.scale, grid.zero_point, grid.limits
        )  # fmt: skip
        assert (again.scale.dtype, again.zero_point.dtype) == (
            grid.scale.dtype, grid.zero_point.dtype
        )  # fmt: skip


def test_what_is_known_is_not_measured_again_unless_it_does_not_hold(tmp_path: Path) -> None:
    def measured(figure: float) -> list[float]:
        calls.append(figure)
        return [figure]

    calls = list[float]()
    first = PriceList("g")
    assert first.figures("a", list[float], lambda: measured(1.0)) == [1.0]
    assert first.figures("a", list[float], lambda: measured(2.0)) == [1.0]
    first.write(tmp_path / PRICES)
    later = PriceList.read(tmp_path / PRICES, "g")
    assert later.figures("a", list[float], lambda: measured(3.0)) == [1.0]
    assert later.note() == [
        "One entry of the model's price list was taken, which an earlier job made; 0 were added."
    ]
    above = later.figures("a", list[float], lambda: measured(4.0), lambda known: known[0] > 2)
    assert above == [4.0]
    assert calls == [1.0, 4.0]
    keeps_nothing = PriceList()
    assert keeps_nothing.figures("a", list[float], lambda: [5.0]) == [5.0]
    assert keeps_nothing.figures("a", list[float], lambda: [6.0]) == [6.0]


@pytest.mark.parametrize("content", [b"", b"PK\3\4 broken", b"{}"])
def test_a_broken_list_is_an_empty_one(tmp_path: Path, content: bytes) -> None:
    (tmp_path / PRICES).write_bytes(content)
    assert PriceList.read(tmp_path / PRICES, "g") == PriceList("g")


def test_a_list_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(price_list, "_MOST", 2)
    made = PriceList("g")
    for what in "abc":
        made.figures(what, list[float], lambda: [1.0])
    made.write(tmp_path / PRICES)
    assert len(PriceList.read(tmp_path / PRICES, "g").earlier) == 2
    made.made["large"] = Entry([], [np.broadcast_to(np.float32(0), MOST_PRICE_BYTES)])
    made.write(tmp_path / PRICES)
    kept = PriceList.read(tmp_path / PRICES, "g").earlier
    assert [entry.figures for entry in kept.values()] == [[1.0], [1.0]], "what fits is kept"


def test_an_entry_for_which_there_is_no_room_is_not_kept() -> None:
    made = PriceList("g")
    assert made.value("a", lambda: 1, lambda _value: None, lambda _entry: 2) == 1
    assert made.value("a", lambda: 3, lambda _value: Entry([]), lambda _entry: 2) == 3
    assert made.value("a", lambda: 4, lambda _value: None, lambda _entry: 2) == 2
