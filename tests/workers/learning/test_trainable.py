"""What an upload's description says of training."""

import onnx_ir as ir
import pytest

from tests.workers.learning import nets
from workers.compression.graph.inference import infer
from workers.compression.learning.trainable import examine, measured, obstacles

FROZEN = nets.MLP.replace("r = Relu(h)", "r = Bernoulli(h)")


def graph(text: str) -> ir.Model:
    model = nets.graph(text, nets.MLP_SHAPES)
    for node in model.graph:
        for value in node.outputs:
            value.type = value.type or ir.TensorType(ir.DataType.FLOAT)
    return model


def test_a_plain_network_can_be_trained() -> None:
    assert obstacles(graph(nets.MLP)) == []


def test_a_node_without_gradient_between_weights_and_outputs_is_named() -> None:
    [skipped] = obstacles(graph(FROZEN))
    assert "Bernoulli" in skipped.node
    assert "Bernoulli" in skipped.reason


def test_a_node_without_gradient_before_all_weights_is_in_nobody_s_way() -> None:
    text = nets.MLP.replace("h = Gemm<transB=1>(x,", "n = Bernoulli(x)\n h = Gemm<transB=1>(n,")
    assert obstacles(graph(text)) == []


@pytest.mark.parametrize(
    ("operator", "imports"),
    [("Bernoulli", ""), ("com.acme.Twist", ', "com.acme": 1')],
    ids=["without gradient", "not at all"],
)
def test_what_torch_has_nothing_like_is_named(operator: str, imports: str) -> None:
    """Formats that are made of its programs refuse the graph, as a plan says."""
    nodes = nets.MLP.replace("Relu(h)", f"{operator}(h)")
    [named] = examine(graph(nodes.replace('["": 21]', f'["": 21{imports}]'))).untranslated
    assert named.endswith(f"({operator.removeprefix('com.acme.')})")


def test_a_spectrum_is_no_obstacle_and_its_window_is_not_trained() -> None:
    text = """
        <ir_version: 10, opset_import: ["": 21]>
        sound (float[N, 64, 1] x) => (float[N, 7, 9, 5] y) {
            step = Constant<value_int = 8>()
            length = Constant<value_int = 16>()
            s = STFT(x, step, window, length)
            y = MatMul(s, w)
        }"""
    model = nets.graph(text, {"window": (16,), "w": (2, 5)})
    infer(model)
    assert obstacles(model) == []
    assert measured(model) == {"window"}


@pytest.mark.parametrize("text", ["y = ArgMax<axis=1>(h)", "y = Cast<to=7>(h)"])
def test_a_graph_that_answers_in_integers_cannot_be_trained(text: str) -> None:
    model = nets.graph(
        f"""
        <ir_version: 10, opset_import: ["": 21]>
        answers (float[N, 8] x) => (int64[N, M] y)
        {{
            h = Gemm<transB=1>(x, w1, b1)
            {text}
        }}
        """,
        {"w1": (32, 8), "b1": (32,)},
    )
    [skipped] = obstacles(model)
    assert "no float32 weight" in skipped.reason


def test_an_operator_that_nothing_here_runs_is_named() -> None:
    text = nets.MLP.replace("r = Relu(h)", "r = com.acme.Twist(h)").replace(
        '["": 21]', '["": 21, "com.acme": 1]'
    )
    [skipped] = obstacles(graph(text))
    assert "Twist" in skipped.reason


def test_a_graph_of_an_older_opset_does_not_reach_the_executor() -> None:
    """The bounds of a Clip of opset 10 are attributes: read as inputs, they were none."""
    model = graph(
        """
        <ir_version: 8, opset_import: ["": 10]>
        clipped (float[N, 8] x) => (float[N, 32] y)
        {
            h = Gemm<transB=1>(x, w1, b1)
            y = Clip<min=0.0, max=1.0>(h)
        }
        """
    )
    [skipped] = obstacles(model)
    assert "opset 10" in skipped.reason
    assert "newer opset" in skipped.reason


@pytest.mark.parametrize(
    "noise", ["n = RandomNormalLike(h)", "t = Constant<value_int=1>()\n n = Dropout(h, , t)"]
)
def test_a_graph_that_draws_random_numbers_is_not_told_to_take_a_newer_opset(noise: str) -> None:
    """It stays as uploaded, since no answer shows that a converter has kept its meaning."""
    model = graph(
        f"""
        <ir_version: 8, opset_import: ["": 17]>
        noisy (float[N, 8] x) => (float[N, 32] y)
        {{
            h = Gemm<transB=1>(x, w1, b1)
            {noise}
            y = Add(h, n)
        }}
        """
    )
    [skipped] = obstacles(model)
    assert "draws random numbers" in skipped.reason
    assert "model.eval()" in skipped.reason
    assert "newer opset" not in skipped.reason
