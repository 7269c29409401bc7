"""An Einsum becomes the product that it is, and computes the same."""

from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from tests.workers.graph.normal import normal, operators
from tests.workers.intake.models import model, tensor, value
from workers.compression.graph import stats

SIZES = {"a": 2, "b": 3, "c": 4, "d": 5, "e": 6}


def shape(letters: str) -> list[int]:
    return [SIZES[letter] for letter in letters]


@pytest.mark.parametrize(
    "equation",
    [
        "ab,bc->ac", "ab,cb->ca", "abc,abd->adc", "abcd,aecd->abce", "abc,dc->abd",
        "abcd,adec->aebd", "a,b->ab", "ab,ac->abc", "ab,ab->a", "ab,b->a", "ab,bc", "a,ab->b",
        "abc,dbc->ad", "abc,dce->abde",
    ],
)  # fmt: skip
@pytest.mark.parametrize("weight", [None, "x", "z"])
def test_two_operands_become_one_product(equation: str, weight: str | None, tmp_path: Path) -> None:
    terms, _, output = equation.partition("->")
    letters = dict(zip("xz", terms.split(","), strict=True))
    node = helper.make_node("Einsum", ["x", "z"], ["e"], "product", equation=equation)
    inputs = [value(name, *shape(term)) for name, term in letters.items() if name != weight]
    random = np.random.default_rng(0)
    weights = [
        tensor(name, random.standard_normal(shape(term), dtype=np.float32))
        for name, term in letters.items()
        if name == weight
    ]
    last = helper.make_node("Relu", ["e"], ["y"])
    proto = model([node, last], inputs, [value("y", *shape(output or "ac"))], weights)
    graph = normal(proto, tmp_path)
    found = operators(graph)
    merges = equation in {"abc,dbc->ad", "abc,dce->abde"}
    if weight is None and merges:
        assert found["Einsum"] == 1  # sizes of several letters are a constant's
        return
    assert (found["Einsum"], found["MatMul"]) == (0, 1)
    product = next(node for node in graph.graph if node.op_type == "MatMul")
    assert product.name == "product"
    right = product.inputs[1]
    assert right is not None
    assert weight is None or right.is_initializer()


def test_what_stays_an_einsum_counts_with_its_weights(tmp_path: Path) -> None:
    node = helper.make_node("Einsum", ["x", "w", "z"], ["y"], equation="ab,bcd,ad->ac")
    inputs = [value("x", "N", 3), value("z", "N", 5)]
    weights = [tensor("w", np.ones((3, 4, 5), np.float32))]
    graph = normal(model([node], inputs, [value("y", "N", 4)], weights), tmp_path)
    found = stats.measure(graph, {"N": 1})
    assert (found.parameters, found.macs) == (60, 2 * 60)
