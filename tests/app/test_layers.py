"""The layers of a result: one row each, in the order of the graph."""

from app.domain.reports import LayerChange, Measures, StepReport
from app.web import layers

MEASURES = Measures(
    size_bytes=1, parameters=1, nonzero_parameters=1, macs=1, latency_ms=1.0, quality=None,
    fidelity=None,
)  # fmt: skip


def step(names: str, before: int, after: int) -> StepReport:
    """Return the report of a step that changed layers of one letter."""
    changes = [
        LayerChange(
            node=name, operator="Conv", change=f"to {after}", bytes_before=before, bytes_after=after
        )
        for name in names
    ]
    return StepReport(
        index=0, method="prune", parameters={}, seconds=1.0, before=MEASURES, after=MEASURES,
        layers=changes, skipped=[],
    )  # fmt: skip


def test_a_layer_of_two_steps_has_one_row_in_its_place_in_the_graph() -> None:
    found = layers.changed([step("acd", 4000, 2000), step("abcde", 2000, 500)])
    assert [layer.node for layer in found] == ["a", "b", "c", "d", "e"]
    assert [layer.number for layer in found] == [1, 2, 3, 4, 5]
    assert found[0].changes == ["to 2000", "to 500"]
    assert (found[0].bytes_before, found[0].bytes_after) == (4000, 500)
    assert (found[1].bytes_before, found[1].bytes_after) == (2000, 500)


def test_the_tallest_bar_is_the_most_bytes_and_the_smallest_can_be_seen() -> None:
    picture = layers.picture(layers.changed([step("ab", 10_000, 1)]))
    assert picture is not None
    assert [(each.before, each.after) for each in picture.columns] == [(160.0, 1.0)] * 2
    assert [each.x for each in picture.columns] == [0, 64], "a few layers have no giant bars"


def test_a_picture_grows_with_its_layers_up_to_a_limit() -> None:
    names = [chr(256 + place) for place in range(3000)]
    picture = layers.picture(layers.changed([step("".join(names), 2, 1)]))
    assert picture is not None
    assert len(picture.columns) == 2000
    assert picture.width == 8 * 2000
    assert layers.picture([]) is None
