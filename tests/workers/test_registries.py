"""What is half added is seen: each table has a row for each name that a request may give.

Metrics are compared in ``tests/workers/engine/test_quality.py``.
"""

from collections.abc import Collection
from typing import Any, get_args

import numpy as np
import pytest
import torch

from app.domain import criteria, layouts
from app.domain.criteria import Criterion, Granularity
from app.domain.datasets import DatasetDescription
from app.domain.steps import METHODS, Prune, Quantize
from app.domain.steps.distill import Architecture, DistillLoss
from app.domain.steps.low_rank import LowRank
from app.domain.steps.quantize import RangeRule
from app.domain.steps.recover import Change
from app.domain.targets import OutputFormat
from workers.compression import methods
from workers.compression.architectures import ARCHITECTURES
from workers.compression.delivery import FORMS
from workers.compression.intake.datasets import FORMATS
from workers.compression.learning.augment import augment
from workers.compression.looking.histograms import Histogram
from workers.compression.methods.distill.terms import TERMS
from workers.compression.methods.low_rank.candidates import DECOMPOSITIONS
from workers.compression.methods.prune.criteria import CRITERIA
from workers.compression.methods.quantize.integers import BITS
from workers.compression.methods.quantize.ranges import finder


def names(annotation: Any) -> set[str]:
    """Return the strings that an annotation allows."""
    if isinstance(annotation, str):
        return {annotation}
    return set[str]().union(*(names(each) for each in get_args(annotation)))


def field(model: Any, name: str) -> set[str]:
    return names(model.model_fields[name].annotation)


TABLES: dict[str, tuple[Collection[str], set[str]]] = {
    "methods": (methods.METHODS, {name for each in METHODS for name in field(each, "method")}),
    "criteria, as requests see them": (criteria.CRITERIA, names(Criterion)),
    "criteria, as the engine computes them": (CRITERIA, names(Criterion)),
    "decompositions": (DECOMPOSITIONS, field(LowRank, "decomposition") - {"auto"}),
    "losses of distillation": (TERMS, field(DistillLoss, "kind")),
    "architectures": (ARCHITECTURES, field(Architecture, "architecture")),
    "types of integers": (
        BITS, field(Quantize, "weights") | field(Quantize, "activations") - {"none"}
    ),
    "formats of datasets": (FORMATS, field(DatasetDescription, "format")),
}  # fmt: skip


@pytest.mark.parametrize("table", TABLES)
def test_a_table_has_a_row_for_each_name(table: str) -> None:
    rows, wanted = TABLES[table]
    assert set(rows) == wanted


def test_what_can_be_delivered_is_a_target_and_so_are_networks_that_halve_pictures() -> None:
    assert set(FORMS) <= names(OutputFormat)
    assert set(layouts.HALVINGS) <= set(ARCHITECTURES)


@pytest.mark.parametrize("criterion", get_args(Criterion))
def test_a_criterion_is_computed_for_what_it_may_compare(criterion: Criterion) -> None:
    row, way = criteria.CRITERIA[criterion], CRITERIA[criterion]
    assert (way.channels is not None) == (row.granularities >= criteria.CHANNELS)
    assert (way.weights is not None) == (row.granularities >= criteria.WEIGHTS)
    assert (way.factors is not None) == (way.weights is not None)
    assert row.granularities <= names(Granularity)
    if row.granularities != criteria.ALL:
        others = criteria.ALL - row.granularities
        assert criteria.CRITERIA[row.instead].granularities >= others  # type: ignore[index]


@pytest.mark.parametrize("criterion", get_args(Criterion))
@pytest.mark.parametrize("granularity", get_args(Granularity))
def test_a_request_is_refused_where_a_criterion_compares_no_such_things(
    criterion: Criterion, granularity: Granularity
) -> None:
    def asked() -> Prune:
        return Prune(criterion=criterion, granularity=granularity)

    if granularity in criteria.CRITERIA[criterion].granularities:
        looks = criteria.CRITERIA[criterion].source
        assert asked().needs.trainable == (looks == "gradients")
        assert (asked().needs.data == "inputs") == (looks in {"activations", "gradients"})
    else:
        with pytest.raises(ValueError, match=criteria.CRITERIA[criterion].instead):
            asked()


@pytest.mark.parametrize("rule", get_args(RangeRule))
def test_a_rule_finds_a_range(rule: RangeRule) -> None:
    values = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    counts, edges = np.histogram(values, 512)
    found = finder(Quantize(), rule)(Histogram(float(edges[0]), float(edges[-1]), counts))
    assert edges[0] <= found[0] < -1
    assert 1 < found[1] <= edges[-1]


@pytest.mark.parametrize("kind", get_args(Change))
def test_a_change_of_pictures_changes_them(kind: Change) -> None:
    pictures = torch.arange(16.0 * 3 * 16 * 16).reshape(16, 3, 16, 16)
    changed = augment(pictures, [kind], np.random.default_rng(1))
    assert changed.shape == pictures.shape
    assert not torch.equal(changed, pictures)
