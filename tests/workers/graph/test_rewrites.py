"""The normal form computes the same, under the same names, with nothing left to compute ahead."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper

from tests.workers.graph.normal import normal, operators, trials_of
from tests.workers.intake.models import branch, convnet, mlp, model, tensor, value
from workers.compression.graph import equivalence
from workers.compression.graph.load import save, store
from workers.compression.graph.rewrites import Applied, Pass, Undone, normalize
from workers.compression.graph.rewrites.constants import lift_constants
from workers.compression.graph.rewrites.dead import remove_dead
from workers.compression.graph.rewrites.fold import fold_constants
from workers.compression.graph.rewrites.identity import remove_identities
from workers.compression.graph.rewrites.shapes import infer_shapes


def constant(name: str, array: object) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=tensor(name, array))


def test_identities_constants_and_dead_nodes_go(tmp_path: Path) -> None:
    nodes = [
        constant("two", np.float32(2)),
        constant("three", np.float32(3)),
        helper.make_node("Add", ["two", "three"], ["five"]),
        helper.make_node("Identity", ["x"], ["i"]),
        helper.make_node("Mul", ["i", "five"], ["m"]),
        helper.make_node("Exp", ["x"], ["unused"]),
        helper.make_node("Identity", ["m"], ["y"]),
    ]
    proto = model(nodes, [value("x", "N", 2)], [value("y", "N", 2)], [tensor("w", np.ones(3))])
    graph = normal(proto, tmp_path)
    assert operators(graph) == {"Mul": 1}
    assert [v.name for v in graph.graph.outputs] == ["y"]
    assert list(graph.graph.initializers) == ["five"]
    assert graph.graph.initializers["five"].const_value.numpy() == 5  # type: ignore[union-attr]


def test_an_identity_from_input_to_output_keeps_both_names(tmp_path: Path) -> None:
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    graph = normal(model(nodes, [value("x", "N")], [value("y", "N")]), tmp_path)
    assert operators(graph) == {"Identity": 1}


def test_an_identity_of_an_outer_value_in_a_branch_stays(tmp_path: Path) -> None:
    def side(name: str) -> onnx.GraphProto:
        nodes = [helper.make_node("Identity", [name], [f"{name}_out"])]
        return helper.make_graph(nodes, name, [], [value(f"{name}_out", "N")])

    nodes = [
        helper.make_node("Neg", ["x"], ["n"]),
        helper.make_node("Exp", ["x"], ["e"]),
        helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0),
        helper.make_node("Cast", ["s"], ["c"], to=onnx.TensorProto.BOOL),
        helper.make_node("If", ["c"], ["y"], then_branch=side("n"), else_branch=side("e")),
    ]
    normal(model(nodes, [value("x", "N")], [value("y", "N")]), tmp_path)


def test_shapes_of_static_values_fold_and_dynamic_ones_stay(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Reshape", ["x", "s"], ["y"]),
    ]
    graph = normal(model(nodes, [value("x", 2, 3)], [value("y", 2, 3)]), tmp_path)
    assert operators(graph) == {"Reshape": 1}
    graph = normal(model(nodes, [value("x", "N", 3)], [value("y", "N", 3)]), tmp_path)
    assert operators(graph) == {"Shape": 1, "Reshape": 1}


def test_what_a_branch_was_folded_from_leaves_it(tmp_path: Path) -> None:
    def side(name: str) -> onnx.GraphProto:
        nodes = [
            helper.make_node("Transpose", [f"{name}w"], [f"{name}t"], perm=[1, 0]),
            helper.make_node("MatMul", ["x", f"{name}t"], [f"{name}y"]),
        ]
        weight = tensor(f"{name}w", np.ones((3, 2), np.float32))
        return helper.make_graph(nodes, name, [], [value(f"{name}y", "N", 3)], [weight])

    nodes = [
        helper.make_node("ReduceMax", ["x"], ["m"], keepdims=0),
        helper.make_node("Cast", ["m"], ["c"], to=9),
        helper.make_node("If", ["c"], ["y"], then_branch=side("t"), else_branch=side("e")),
    ]
    graph = normal(model(nodes, [value("x", "N", 2)], [value("y", "N", 3)]), tmp_path)
    assert [len(each.initializers) for each in graph.graphs()] == [1, 0, 0]  # both hold the same


def test_folding_never_needs_much_memory(tmp_path: Path) -> None:
    """A 4 TB result is not computed to see how large it is; neither is one of unknown size."""
    nodes = [
        constant("shape", np.array([1 << 20, 1 << 20])),
        helper.make_node("ConstantOfShape", ["shape"], ["huge"]),
        helper.make_node("ReduceMax", ["huge"], ["h"], keepdims=0),
        constant("data", np.ones(4, np.float32)),
        helper.make_node("NonZero", ["data"], ["n"]),
        helper.make_node("Cast", ["n"], ["c"], to=1),
        helper.make_node("ReduceMax", ["c"], ["r"], keepdims=0),
        helper.make_node("Sum", ["x", "h", "r"], ["y"]),
    ]
    graph = ir.serde.deserialize_model(model(nodes, [value("x", "N")], [value("y", "N")]))
    lift_constants(graph)
    fold_constants(graph)
    assert operators(graph)["ConstantOfShape"] == operators(graph)["NonZero"] == 1


def test_narrow_weights_stay_as_they_are_stored(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s"], ["w"]),
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Cast", ["h"], ["v"], to=1),
        helper.make_node("MatMul", ["m", "v"], ["y"]),
    ]
    weights = [
        tensor("q", np.ones((64, 64), np.int8)),
        tensor("s", np.float32(0.5)),
        tensor("h", np.ones((64, 64), np.float16)),
    ]
    graph = normal(model(nodes, [value("x", "N", 64)], [value("y", "N", 64)], weights), tmp_path)
    assert operators(graph) == {"DequantizeLinear": 1, "MatMul": 2}
    store(graph, tmp_path / "stored.onnx")
    kept = {t.data_type for t in onnx.load(tmp_path / "stored.onnx").graph.initializer}
    assert kept == {onnx.TensorProto.INT8, onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16}


def test_random_operators_stay(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("RandomNormal", [], ["r"], shape=[2], seed=1.0),
        helper.make_node("Add", ["x", "r"], ["y"]),
    ]
    graph = ir.serde.deserialize_model(model(nodes, [value("x", 2)], [value("y", 2)]))
    assert fold_constants(graph) == 0


def test_local_functions_are_inlined(tmp_path: Path) -> None:
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    inner = helper.make_function(
        "own", "Inner", ["a"], ["b"], [helper.make_node("Exp", ["a"], ["b"])], imports
    )
    outer = helper.make_function(
        "own", "Outer", ["a"], ["b"],
        [helper.make_node("Inner", ["a"], ["m"], domain="own"),
         helper.make_node("Neg", ["m"], ["b"])],
        imports,
    )  # fmt: skip
    nodes = [helper.make_node("Outer", ["x"], ["y"], domain="own")]
    proto = model(
        nodes, [value("x", "N")], [value("y", "N")], functions=[inner, outer], imports=imports[1:]
    )
    graph = normal(proto, tmp_path)
    assert operators(graph) == {"Exp": 1, "Neg": 1}
    assert not graph.functions


def test_weights_listed_as_inputs_are_weights(tmp_path: Path) -> None:
    proto = mlp()
    proto.graph.input.append(value("w1", 4, 8))
    assert [v.name for v in normal(proto, tmp_path).graph.inputs] == ["x"]


def test_shapes_are_inferred_with_symbols_and_wrong_claims_are_dropped(tmp_path: Path) -> None:
    proto = convnet()
    proto.graph.value_info.append(value("c", 1, 2, 3, 4))
    graph = normal(proto, tmp_path)
    by_name = {v.name: v for node in graph.graph for v in node.outputs}
    assert str(by_name["r"].shape).startswith("[N,6,")
    assert str(graph.graph.outputs[0].shape) == "[N,5]"


@pytest.mark.parametrize("make", [mlp, convnet, branch])
def test_the_normal_form_is_its_own_normal_form(tmp_path: Path, make: object) -> None:
    graph = normal(make(), tmp_path)  # type: ignore[operator]
    save(graph, tmp_path / "once.onnx")
    again = normal(onnx.load(tmp_path / "once.onnx"), tmp_path)
    save(again, tmp_path / "twice.onnx")
    assert (tmp_path / "once.onnx").read_bytes() == (tmp_path / "twice.onnx").read_bytes()


def test_a_pass_that_changes_the_outputs_is_undone_and_named(tmp_path: Path) -> None:
    def spoil(graph: ir.Model) -> int:
        weight = graph.graph.initializers["w1"]
        weight.const_value = ir.tensor(np.ones((4, 8), np.float32), name="w1")
        return 1

    def crash(_: ir.Model) -> int:
        raise ValueError("no")

    _, trials = trials_of(mlp(), tmp_path)
    graph, passes = normalize(
        tmp_path / "reference.onnx",
        trials,
        (spoil, crash, remove_identities, remove_dead),
    )
    assert [type(each) for each in passes] == [Undone, Undone, Applied, Applied]
    assert passes[0].name == "spoil"
    assert "output 'y' differs" in passes[0].reason  # type: ignore[union-attr]
    save(graph, tmp_path / "kept.onnx")
    assert equivalence.check(tmp_path / "kept.onnx", trials) is None


def test_only_the_passes_that_change_the_outputs_are_undone(tmp_path: Path) -> None:
    """All are judged together; the two that are wrong are found among those that are right."""

    def scale(weight: str) -> Pass:
        def change(graph: ir.Model) -> int:
            value = graph.graph.initializers[weight]
            array = value.const_value.numpy() * 2  # type: ignore[union-attr]
            value.const_value = ir.tensor(array, name=weight)
            return 1

        return change

    first, second = scale("w1"), scale("b2")
    passes = (remove_identities, first, fold_constants, remove_dead, second, infer_shapes)
    reference, trials = trials_of(mlp(), tmp_path)
    graph, done = normalize(tmp_path / "reference.onnx", trials, passes)
    undone = [type(each) is Undone for each in done]
    assert undone == [False, True, False, False, True, False]
    assert operators(graph) == {"Gemm": 2, "Relu": 1}
    for name in ("w1", "b2"):
        np.testing.assert_array_equal(
            graph.graph.initializers[name].const_value.numpy(),  # type: ignore[union-attr]
            reference.graph.initializers[name].const_value.numpy(),  # type: ignore[union-attr]
        )


def test_what_cannot_be_computed_is_left_and_everything_else_is_folded(tmp_path: Path) -> None:
    """A Gather beyond its table fails when it is run; nodes beside it are folded all the same."""
    nodes = [
        constant("table", np.ones(3, np.float32)),
        constant("beyond", np.array([7])),
        constant("two", np.float32(2)),
        helper.make_node("Gather", ["table", "beyond"], ["broken"]),
        helper.make_node("Neg", ["broken"], ["behind"]),
        helper.make_node("Sqrt", ["two"], ["root"]),
        helper.make_node("Exp", ["root"], ["e"]),
        helper.make_node("Sum", ["x", "behind", "e"], ["y"]),
    ]
    graph = ir.serde.deserialize_model(model(nodes, [value("x", "N")], [value("y", "N")]))
    lift_constants(graph)
    assert fold_constants(graph) == 2
    assert operators(graph) == {"Gather": 1, "Neg": 1, "Sum": 1}
    assert graph.graph.initializers["e"].const_value.numpy() == pytest.approx(  # type: ignore[union-attr]
        np.exp(np.sqrt(2)), rel=1e-6
    )


def test_constants_of_the_same_name_in_two_branches_are_folded_apart(tmp_path: Path) -> None:
    def side(factor: float) -> onnx.GraphProto:
        nodes = [
            helper.make_node("Neg", ["w"], ["t"]),
            helper.make_node("Mul", ["x", "t"], ["out"]),
        ]
        weight = tensor("w", np.full(2, factor, np.float32))
        return helper.make_graph(nodes, "side", [], [value("out", "N", 2)], [weight])

    nodes = [
        helper.make_node("ReduceMax", ["x"], ["m"], keepdims=0),
        helper.make_node("Cast", ["m"], ["c"], to=9),
        helper.make_node("If", ["c"], ["y"], then_branch=side(2), else_branch=side(3)),
    ]
    graph = normal(model(nodes, [value("x", "N", 2)], [value("y", "N", 2)]), tmp_path)
    branches = [
        graph.graph[-1].attributes[f"{side}_branch"].as_graph() for side in ("then", "else")
    ]
    folded = [each[0].inputs[1].const_value.numpy() for each in branches]  # type: ignore[union-attr]
    assert [array.tolist() for array in folded] == [[-2, -2], [-3, -3]]


def test_a_table_that_is_read_in_two_ways_is_stored_once(tmp_path: Path) -> None:
    """However small: a tied embedding is looked up, and turned into the last product's weight."""
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("Transpose", ["table"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["rows", "turned"], ["y"]),
    ]
    inputs = [value("ids", "N", dtype=onnx.TensorProto.INT64)]
    table = tensor("table", np.random.default_rng(0).standard_normal((9, 4)).astype(np.float32))
    graph = normal(model(nodes, inputs, [value("y", "N", 9)], [table]), tmp_path)
    assert list(graph.graph.initializers) == ["table"]
