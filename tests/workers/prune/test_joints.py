"""How channels hang together at each kind of joint, in graphs of a few nodes.

Each graph is cut to half of every group and compared with the masked one; the sizes of the groups
say what may go by itself: 4 of 8 channels in two groups of convolution are 4 pairs, say.
"""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from workers.compression.graph import equivalence, runtime
from workers.compression.graph.editor import name_nodes
from workers.compression.graph.load import load, save
from workers.compression.methods.prune.cut import cut
from workers.compression.methods.prune.groups import Analysis, analyse
from workers.compression.methods.prune.masks import mask
from workers.compression.methods.prune.survey import survey_graph
from workers.compression.samples.context import Context

IMAGE = "float[N, 3, 8, 8] x"
ROWS = "float[N, 5, 12] x"

# name: (input, nodes, weights, sizes of the groups)
JOINTS: dict[str, tuple[str, str, dict[str, tuple[int, ...]], list[int]]] = {
    "groups of a convolution": (
        IMAGE,
        "a = Conv(x, w) b = Conv<group = 4>(a, g) y = Conv(b, v)",
        {"w": (16, 3, 1, 1), "g": (24, 4, 1, 1), "v": (2, 24, 1, 1)},
        [4, 4, 6],
    ),
    "depthwise with a multiplier": (
        IMAGE,
        "a = Conv(x, w) b = Conv<group = 8>(a, g) y = Conv(b, v)",
        {"w": (8, 3, 1, 1), "g": (16, 1, 1, 1), "v": (2, 16, 1, 1)},
        [2, 8],
    ),
    "transposed convolution in groups": (
        IMAGE,
        "a = Conv(x, w) b = ConvTranspose<group = 2>(a, g) y = Conv(b, v)",
        {"w": (8, 3, 1, 1), "g": (8, 6, 1, 1), "v": (2, 12, 1, 1)},
        [2, 4, 6],
    ),
    "channel shuffle": (
        IMAGE,
        (
            "a = Conv(x, w) r = Reshape(a, to5) t = Transpose<perm = [0, 2, 1, 3, 4]>(r)"
            " b = Reshape(t, to4) y = Conv(b, v)"
        ),
        {"w": (8, 3, 1, 1), "v": (2, 8, 1, 1)},
        [2, 4],
    ),
    "normalised in groups": (
        IMAGE,
        "a = Conv(x, w) b = GroupNormalization<num_groups = 4>(a, s, o) y = Conv(b, v)",
        {"w": (8, 3, 1, 1), "s": (8,), "o": (8,), "v": (2, 8, 1, 1)},
        [4],
    ),
    "halves that change places": (
        IMAGE,
        (
            "a = Conv(x, w) p, q = Split<axis = 1, num_outputs = 2>(a) b = Concat<axis = 1>(q, p)"
            " c = Add(a, b) y = Conv(c, v)"
        ),
        {"w": (8, 3, 1, 1), "v": (2, 8, 1, 1)},
        [4],
    ),
    "a slice": (
        IMAGE,
        "a = Conv(x, w) b = Slice(a, one, minus_one, one) y = Conv(b, v)",
        {"w": (8, 3, 1, 1), "v": (2, 6, 1, 1)},
        [2, 6],
    ),
    "a constant permutation": (
        IMAGE,
        "a = Conv(x, w) b = Gather<axis = 1>(a, order) c = Concat<axis = 1>(a, b) y = Conv(c, v)",
        {"w": (4, 3, 1, 1), "v": (2, 8, 1, 1)},
        [4],
    ),
    "pixels made of channels": (
        IMAGE,
        "a = Conv(x, w) b = DepthToSpace<blocksize = 2>(a) y = Conv(b, v)",
        {"w": (16, 3, 1, 1), "v": (2, 4, 1, 1)},
        [4],
    ),
    "squeeze and excitation": (
        IMAGE,
        (
            "a = Conv(x, w) m = GlobalAveragePool(a) r = Conv(m, e) q = Relu(r) s = Conv(q, f)"
            " t = Sigmoid(s) b = Mul(a, t) y = Conv(b, v)"
        ),
        {"w": (8, 3, 1, 1), "e": (4, 8, 1, 1), "f": (8, 4, 1, 1), "v": (2, 8, 1, 1)},
        [4, 8],
    ),
    "flattened pixels": (
        IMAGE,
        "a = Conv(x, w) f = Flatten(a) y = Gemm<transB = 1>(f, v)",
        {"w": (4, 3, 1, 1), "v": (2, 256)},
        [4],
    ),
    "a sum over channels": (
        IMAGE,
        "a = Conv(x, w) y = ReduceSum<keepdims = 0>(a, one)",
        {"w": (8, 3, 1, 1)},
        [8],
    ),
    "one weight read twice": (
        ROWS,
        "a = MatMul(x, w) b = MatMul(a, s) c = Relu(b) d = MatMul(c, s) y = MatMul(d, v)",
        {"w": (12, 8), "s": (8, 8), "v": (8, 2)},
        [8],
    ),
    "heads": (
        ROWS,
        (
            "q = MatMul(x, wq) k = MatMul(x, wk) v = MatMul(x, wv)"
            " q4 = Reshape(q, heads) k4 = Reshape(k, heads) v4 = Reshape(v, heads)"
            " qt = Transpose<perm = [0, 2, 1, 3]>(q4) kt = Transpose<perm = [0, 2, 3, 1]>(k4)"
            " vt = Transpose<perm = [0, 2, 1, 3]>(v4) s = MatMul(qt, kt) p = Softmax(s)"
            " a = MatMul(p, vt) t = Transpose<perm = [0, 2, 1, 3]>(a) m = Reshape(t, merged)"
            " y = MatMul(m, wo)"
        ),
        {"wq": (12, 24), "wk": (12, 24), "wv": (12, 24), "wo": (24, 2)},
        [4, 6, 6],
    ),
    "keys that two heads share": (
        ROWS,
        (
            "q = MatMul(x, wq) k = MatMul(x, wk) q4 = Reshape(q, heads) k4 = Reshape(k, pairs)"
            " k5 = Unsqueeze(k4, three) ke = Expand(k5, twice) kr = Reshape(ke, heads)"
            " qt = Transpose<perm = [0, 2, 1, 3]>(q4) kt = Transpose<perm = [0, 2, 3, 1]>(kr)"
            " s = MatMul(qt, kt) y = ReduceSum<keepdims = 0>(s, one)"
        ),
        {"wq": (12, 24), "wk": (12, 12)},
        [2, 6],
    ),
    "a shape that is computed": (
        ROWS,
        (
            "a = MatMul(x, w) z = Shape(a) n = Gather(z, zero)"
            " s = Concat<axis = 0>(n, minus_one, four, two) r = Reshape(a, s)"
            " t = Transpose<perm = [0, 1, 3, 2]>(r) f = Shape(r) l = Slice(f, one, two)"
            " u = Concat<axis = 0>(n, l, eight) b = Reshape(t, u) y = MatMul(b, v)"
        ),
        {"w": (12, 8), "v": (8, 2)},
        [2, 4],
    ),
    "copies": (
        ROWS,
        "a = MatMul(x, w) b = Tile(a, tiles) y = MatMul(b, v)",
        {"w": (12, 8), "v": (16, 2)},
        [8],
    ),
}

# name: (input, nodes, weights, a part of the reason)
LEFT_ALONE: dict[str, tuple[str, str, dict[str, tuple[int, ...]], str]] = {
    "a scale made of a size": (
        ROWS,
        (
            "a = MatMul(x, w) z = Shape(a) c = Gather(z, last) f = Cast<to = 1>(c) b = Div(a, f)"
            " y = MatMul(b, v)"
        ),
        {"w": (12, 8), "v": (8, 2)},
        "computes with its size",
    ),
    "a softmax over channels": (
        ROWS,
        "a = MatMul(x, w) b = Softmax(a) y = MatMul(b, v)",
        {"w": (12, 8), "v": (8, 2)},
        "looks at all of it at once",
    ),
    "normalised over channels": (
        ROWS,
        "a = MatMul(x, w) b = LayerNormalization(a, s) y = MatMul(b, v)",
        {"w": (12, 8), "s": (8,), "v": (8, 2)},
        "normalises over it",
    ),
    "an unknown operator": (
        ROWS,
        'a = MatMul(x, w) b = Einsum<equation = "nlc->ncl">(a) y = MatMul(b, v)',
        {"w": (12, 8), "v": (5, 2)},
        "passes through Einsum",
    ),
    "states of a recurrent layer": (
        ROWS,
        "a = GRU<hidden_size = 8>(x, w, r) b = Squeeze(a, one) y = MatMul(b, v)",
        {"w": (1, 24, 12), "r": (1, 24, 8), "v": (8, 2)},
        "keep their width",
    ),
    "a branch of the graph": (
        ROWS,
        (
            "a = MatMul(x, w) m = ReduceMax<keepdims = 0>(x) c = Greater(m, limit)"
            " b = If(c) <then_branch = yes () => (float[N, 5, 8] o) { o = Relu(a) },"
            " else_branch = no () => (float[N, 5, 8] p) { p = Neg(a) }> y = MatMul(b, v)"
        ),
        {"w": (12, 8), "limit": (), "v": (8, 2)},
        "passes through If",
    ),
    "a residual of the input": (
        ROWS,
        "a = MatMul(x, w) b = Add(a, x) y = MatMul(b, v)",
        {"w": (12, 12), "v": (12, 2)},
        "combines it with what cannot shrink",
    ),
}

CONSTANTS = {
    "to5": [0, 2, 4, 8, 8], "to4": [0, 8, 8, 8], "heads": [0, 0, 4, 6], "merged": [0, -1, 24],
    "pairs": [0, 0, 2, 6], "twice": [1, 1, 1, 2, 1], "order": [2, 0, 3, 1], "tiles": [1, 1, 2],
    "zero": [0], "one": [1], "two": [2], "three": [3], "four": [4], "eight": [8],
    "minus_one": [-1], "last": [2],
}  # fmt: skip


def _graph(given: str, nodes: str, weights: dict[str, tuple[int, ...]], path: Path) -> ir.Model:
    text = f"""
        <ir_version: 10, opset_import: ["" : 21]>
        joint ({given}) => (float[N, a, b] y) {{ {nodes} }}
    """
    model = onnx.parser.parse_model(text)
    random = np.random.default_rng(0)
    for name, shape in weights.items():
        array = random.normal(size=shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    for name, numbers in CONSTANTS.items():
        if any(name in node.input for node in model.graph.node):
            array = np.array(numbers, np.int64)
            model.graph.initializer.append(numpy_helper.from_array(array, name))
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    model.graph.output[0].type.tensor_type.ClearField("shape")
    onnx.save(model, path)
    loaded = load(path)
    name_nodes(loaded)
    return loaded


def _outputs(model: ir.Model, feeds: runtime.Arrays, path: Path) -> runtime.Arrays:
    save(model, path)
    return runtime.run(runtime.open_session(path), feeds)


def _analysed(model: ir.Model) -> tuple[Analysis, list[runtime.Arrays]]:
    survey = survey_graph(model, Context(train=None, seed=0, threads=1))
    return analyse(model, survey.shapes, lambda _: False), survey.trials


@pytest.mark.parametrize("name", JOINTS)
def test_what_hangs_together_goes_together(name: str, tmp_path: Path) -> None:
    given, nodes, weights, sizes = JOINTS[name]
    model = _graph(given, nodes, weights, tmp_path / "joint.onnx")
    analysis, trials = _analysed(model)
    assert sorted(len(group.units) for group in analysis.groups) == sizes
    removed = analysis.none_removed()
    for group in analysis.groups:
        removed[group.units[:: 2 if len(group.units) > 2 else 3]] = True
    smaller = cut(model.clone(), analysis, removed)
    for feeds in trials:
        expected = _outputs(mask(model.clone(), analysis, removed), feeds, tmp_path / "a.onnx")
        given_ = _outputs(smaller, feeds, tmp_path / "b.onnx")
        assert equivalence.difference(expected, given_) is None
    values = model.graph.initializers.values()
    before = sum(v.const_value.nbytes for v in values if v.const_value and v.name in weights)
    left = smaller.graph.initializers.values()
    assert before > sum(v.const_value.nbytes for v in left if v.const_value and v.name in weights)


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_what_cannot_go_is_left_alone_and_says_why(name: str, tmp_path: Path) -> None:
    given, nodes, weights, reason = LEFT_ALONE[name]
    model = _graph(given, nodes, weights, tmp_path / "joint.onnx")
    analysis, _ = _analysed(model)
    assert analysis.groups == []
    assert reason in analysis.skipped[0].reason
