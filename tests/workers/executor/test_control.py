"""Branches, loops, and what torch has no function of ours for."""

import onnx
import onnx.parser
import onnx.shape_inference
import onnx_ir as ir
import pytest
import torch

from app.domain.problems import InvalidModel
from workers.compression.executor import Executor, build, write_back


def executor_of(text: str, opset: int = 21) -> Executor:
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": {opset}]>{text}')
    return build(ir.serde.deserialize_model(onnx.shape_inference.infer_shapes(proto)))


BRANCH = """g (float[N] x, bool c) => (float[N] y) <float[2] w = {3, 4}> {
    y = If (c) <
        then_branch = t () => (float[N] a) { a = Mul(x, w) },
        else_branch = e () => (float[N] b) { n = Neg(w)  b = Add(x, n) }
    >
}"""


@pytest.mark.parametrize(("condition", "wanted", "slope"), [(True, 6, 2), (False, -1, -1)])
def test_a_branch_reads_and_trains_weights_around_it(
    condition: bool, wanted: float, slope: float
) -> None:
    executor = executor_of(BRANCH)
    y = executor({"x": torch.tensor([2.0, 2.0]), "c": torch.tensor(condition)})["y"]
    assert y[0].item() == wanted
    y.sum().backward()
    gradient = executor.weight("w").grad
    assert gradient is not None
    assert gradient[0].item() == slope


def test_a_loop_with_a_computed_count_is_differentiable() -> None:
    executor = executor_of(
        """g (float[2] x, int64 n) => (float[2] y, float[M, 2] all) <float[2] w = {2, 3}> {
        y, all = Loop (n, , x) <
            body = b (int64 i, bool go, float[2] s) => (bool more, float[2] t, float[2] u) {
                more = Identity(go)  t = Mul(s, w)  u = Identity(t)
            }
        >
    }"""
    )
    found = executor({"x": torch.ones(2), "n": torch.tensor(3)})
    assert found["y"].tolist() == [8, 27]
    assert found["all"].tolist() == [[2, 3], [4, 9], [8, 27]]
    found["y"].sum().backward()
    gradient = executor.weight("w").grad
    assert gradient is not None
    assert gradient.tolist() == [12, 27]


def test_what_has_no_function_runs_without_gradient_and_is_named() -> None:
    executor = executor_of(
        """g (float[N] x) => (float[M] y) <float[1] w = {2}, float[2] v = {1, 1}> {
        a = Add(x, v)
        u, i, r, k = Unique <sorted = 1> (a)
        y = Mul(u, w)
    }"""
    )
    [frozen] = executor.frozen
    assert frozen.reason == (
        "it runs without gradient: the executor has no ai.onnx.Unique, so nothing before it can be"
        " trained"
    )
    assert executor({"x": torch.tensor([3.0, 3.0])})["y"].tolist() == [8.0]


def test_an_operator_that_nothing_runs_is_refused_by_name() -> None:
    node = ir.Node("com.acme", "Warp", [ir.Value(name="x")], num_outputs=1, version=1)
    node.outputs[0].name = "y"
    graph = ir.Graph(node.inputs, node.outputs, nodes=[node], opset_imports={"": 21, "com.acme": 1})  # type: ignore[arg-type]
    with pytest.raises(InvalidModel, match=r"com\.acme\.Warp"):
        build(ir.Model(graph, ir_version=10))


def test_a_form_that_nothing_runs_is_refused_with_what_it_is() -> None:
    with pytest.raises(InvalidModel, match=r"no RNN with other activations .*\('y'\)"):
        executor_of(
            """g (float[T, N, 4] x) => (float[T, D, N, 3] y)
            <float[1, 3, 4] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12},
             float[1, 3, 3] r = {1, 2, 3, 4, 5, 6, 7, 8, 9}> {
            y = RNN <hidden_size = 3, activations = ["Softsign"]> (x, w, r)
        }"""
        )


def test_a_graph_is_never_changed() -> None:
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 21]>{BRANCH}')
    model = ir.serde.deserialize_model(proto)
    before = ir.serde.serialize_model(model).SerializeToString(deterministic=True)
    executor = build(model)
    executor({"x": torch.ones(2), "c": torch.tensor(True)})["y"].sum().backward()
    write_back(executor, model)
    assert ir.serde.serialize_model(model).SerializeToString(deterministic=True) == before


def test_what_a_branch_computes_from_constants_lies_with_its_data() -> None:
    """The device "meta" stands in for a GPU: a value in host memory would not fit to one there."""
    executor = executor_of(
        """g (float[2] x) => (float[2] y) <int64 two = {2}> {
        n = Size(x)  c = Equal(n, two)
        z = If (c) <
            then_branch = t () => (float[2] a) {
                k = Constant <value = int64[1] {2}> ()  a = ConstantOfShape(k)
            },
            else_branch = e () => (float[2] b) { b = Neg(x) }
        >
        y = Add(z, x)
    }"""
    ).to("meta")
    assert executor({"x": torch.ones(2, device="meta")})["y"].device.type == "meta"


def test_shape_arithmetic_expanded_to_a_size_from_an_input_is_brought_to_the_data() -> None:
    executor = executor_of(
        """g (float[2] x, int64[1] n) => (float[k] y) <int64 one = {1}> {
        size = Shape(x)  last = Sub(size, one)  row = Expand(last, n)
        offsets = Cast <to = 1> (row)  y = Add(x, offsets)
    }"""
    ).to("meta")
    feeds = {"x": torch.ones(2, device="meta"), "n": torch.tensor([2])}
    assert executor(feeds)["y"].device.type == "meta"


@pytest.mark.parametrize(
    "node",
    [
        "ReduceL2(x, a)",
        "LpPool<kernel_shape = [2]>(x)",
        "LpNormalization<axis = 2>(x)",
        "MeanVarianceNormalization<axes = [2]>(x)",
    ],
)
def test_a_norm_of_zeros_has_a_gradient_of_zeros(node: str) -> None:
    executor = executor_of(
        f"""g (float[1, 1, 4] data) => (float[N, C, L] y)
        <float[4] w = {{1, 1, 1, 1}}, int64[1] a = {{2}}> {{
            x = Mul(data, w)
            y = {node}
        }}"""
    )
    executor({"data": torch.zeros(1, 1, 4)})["y"].sum().backward()
    gradient = executor.weight("w").grad
    assert gradient is not None
    assert gradient.tolist() == [0, 0, 0, 0]
