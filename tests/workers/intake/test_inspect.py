"""An upload becomes a description, the self-contained graph and its normal form."""

import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import rapidocr
from onnx import helper, numpy_helper

from app.domain.directory import MODEL, ORIGINAL
from app.domain.models import TensorSpec
from app.domain.problems import DatasetMismatch, InvalidModel
from tests.workers.intake.models import (
    branch,
    convnet,
    externalize,
    mlp,
    model,
    tensor,
    value,
    write,
)
from workers.compression.graph import equivalence, runtime, shapes
from workers.compression.graph.load import load
from workers.compression.graph.trials import find_trials
from workers.compression.intake.inspect import inspect_model
from workers.compression.measure import synthetic

REAL = sorted((Path(rapidocr.__file__).parent / "models").glob("*.onnx"))


def test_a_description_says_what_the_contract_promises(tmp_path: Path) -> None:
    found = inspect_model(write(convnet(), tmp_path / "upload"), tmp_path)
    assert found.opset == 17
    assert found.inputs == [TensorSpec(name="x", dtype="float32", shape=["N", 3, "H", "W"])]
    assert found.outputs == [TensorSpec(name="y", dtype="float32", shape=["N", 5])]
    assert found.operators["Conv"] == 1
    assert found.parameters == 6 * 3 * 9 + 6 + 6 + 6 * 5 + 5
    assert found.macs == 6 * 3 * 9 * 224 * 224 + 6 * 5
    assert found.notes == [
        "Multiply–accumulates (MACs) are those of one sample with H = 224, W = 224."
    ]
    assert found.sample_sizes == {"H": 224, "W": 224}
    assert {layer.name for layer in found.layers} >= {"conv", "classifier"}


def test_dynamic_dimensions_have_the_sizes_of_what_a_run_reads(tmp_path: Path) -> None:
    graph = load(write(convnet(), tmp_path / "model.onnx"))
    samples = {"x": np.zeros((7, 3, 5, 6), np.float32)}
    assert shapes.sizes_of(graph, samples) == {"N": 7, "H": 5, "W": 6}


@pytest.mark.parametrize("upload", REAL, ids=lambda path: path.stem)
def test_a_real_model_keeps_its_interface_and_its_answers(tmp_path: Path, upload: Path) -> None:
    found = inspect_model(upload, tmp_path)
    assert not [note for note in found.notes if "undone" in note]
    original, normal = onnx.load(tmp_path / ORIGINAL), onnx.load(tmp_path / MODEL)
    assert [v.name for v in normal.graph.output] == [v.name for v in original.graph.output]
    assert not {"Identity", "Constant"} & {node.op_type for node in normal.graph.node}
    trials = find_trials(load(tmp_path / ORIGINAL), tmp_path / ORIGINAL, seed=5)
    trials = equivalence.with_noise(tmp_path / ORIGINAL, trials)
    assert equivalence.check(tmp_path / MODEL, trials) is None
    assert found.macs > 10**7
    assert found.parameters > 10**5


@pytest.mark.parametrize("pack", ["zip", "tar.gz"])
@pytest.mark.parametrize("folder", ["", "exported/"])
def test_a_bundle_becomes_one_self_contained_graph(tmp_path: Path, pack: str, folder: str) -> None:
    expected = inspect_model(write(mlp(), tmp_path / "whole"), tmp_path)
    proto = mlp()
    (tmp_path / "data").write_bytes(b"12345678" + proto.graph.initializer[0].raw_data)
    externalize(proto.graph.initializer[0], "m.data", offset="8")
    write(proto, tmp_path / "graph")
    names = {"graph": f"{folder}m.onnx", "data": f"{folder}m.data"}
    if pack == "zip":
        with zipfile.ZipFile(tmp_path / "upload", "w") as archive:
            for source, name in names.items():
                archive.write(tmp_path / source, name)
    else:
        with tarfile.open(tmp_path / "upload", "w:gz") as archive:
            for source, name in names.items():
                archive.add(tmp_path / source, name)
    job = tmp_path / "job"
    job.mkdir()
    assert inspect_model(tmp_path / "upload", job) == expected
    assert sorted(file.name for file in job.iterdir()) == [MODEL, ORIGINAL]
    assert (job / MODEL).read_bytes() == (tmp_path / MODEL).read_bytes()


def test_the_same_upload_gives_the_same_bytes(tmp_path: Path) -> None:
    graphs = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        inspect_model(write(branch(), tmp_path / "upload"), tmp_path / name)
        graphs.append((tmp_path / name / MODEL).read_bytes())
    assert graphs[0] == graphs[1]


def test_nodes_out_of_order_and_sizes_of_minus_one_are_put_right(tmp_path: Path) -> None:
    proto = mlp()
    nodes = list(proto.graph.node)[::-1]
    proto.graph.ClearField("node")
    proto.graph.node.extend(nodes)
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    found = inspect_model(write(proto, tmp_path / "upload"), tmp_path)
    assert found.inputs[0].shape == ["x_0", 4]
    session = runtime.open_session(tmp_path / MODEL)
    assert runtime.run(session, {"x": np.zeros((3, 4), np.float32)})["y"].shape == (3, 3)


def test_what_merged_files_say_twice_is_read_as_onnxruntime_reads_it(tmp_path: Path) -> None:
    """The last one counts, of weights as of operator sets under both names of the domain."""
    proto = mlp()
    proto.opset_import.append(helper.make_opsetid("", 11))
    proto.opset_import.append(helper.make_opsetid("ai.onnx", 13))
    proto.graph.node[1].domain = "ai.onnx"
    proto.graph.initializer.append(tensor("b2", np.full(3, 5, np.float32)))
    proto.graph.output.append(proto.graph.output[0])
    path = write(proto, tmp_path / "upload")
    description = inspect_model(path, tmp_path)
    assert description.opset == 13
    assert [output.name for output in description.outputs] == ["y"]
    feeds = {"x": np.ones((2, 4), np.float32)}
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    before, repeated = session.run(None, feeds)
    np.testing.assert_array_equal(before, repeated)
    session = ort.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (after,) = session.run(None, feeds)
    np.testing.assert_allclose(after, before, rtol=1e-5)


def test_nodes_that_share_a_name_are_named_apart(tmp_path: Path) -> None:
    """onnxruntime refuses them, though names of nodes mean nothing."""
    proto = mlp()
    for node, name in zip(proto.graph.node, ["a", "a", "a_2", "a"], strict=True):
        node.name = name
    inspect_model(write(proto, tmp_path / "upload"), tmp_path)
    names = [node.name for node in onnx.load(tmp_path / ORIGINAL).graph.node]
    assert names == ["a", "a_3", "a_2", "a_4"]


def test_weights_that_are_no_inputs_need_no_newer_file(tmp_path: Path) -> None:
    """Tools take weights off the inputs and leave the IR version, which onnxruntime allows."""
    proto = mlp()
    proto.ir_version = 3
    inspect_model(write(proto, tmp_path / "upload"), tmp_path)
    assert onnx.load(tmp_path / ORIGINAL).ir_version == 4


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(
    ("operator", "opset"),
    [("LayerNormalization", 13), ("SimplifiedLayerNormalization", 17),
     ("SimplifiedLayerNormalization", 20)],
)  # fmt: skip
def test_normalisations_of_onnxruntime_are_read_as_it_reads_them(
    tmp_path: Path, operator: str, opset: int, dtype: type
) -> None:
    """Its optimizer writes them into the standard domain, whose opset does not have them."""
    random, kind = np.random.default_rng(0), helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    names = ["scale"] if operator.startswith("Simplified") else ["scale", "shift"]
    proto = model(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"]),
            helper.make_node(operator, ["h", *names], ["n"], axis=-1, epsilon=0.3),
            helper.make_node("Relu", ["n"], ["y"]),
        ],
        [value("x", "N", 4, dtype=kind)],
        [value("y", "N", 64, dtype=kind)],
        [
            tensor("w", random.standard_normal((4, 64)).astype(dtype)),
            *(tensor(name, random.standard_normal(64).astype(dtype)) for name in names),
        ],
        opset=opset,
    )
    path = write(proto, tmp_path / "upload")
    assert not [note for note in inspect_model(path, tmp_path).notes if "undone" in note]
    feeds: dict[str, Any] = {"x": random.standard_normal((5, 4)).astype(dtype)}
    (before,) = ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, feeds)
    for file in (ORIGINAL, MODEL):
        session = ort.InferenceSession(tmp_path / file, providers=["CPUExecutionProvider"])
        (after,) = session.run(None, feeds)
        np.testing.assert_allclose(
            after, before, rtol=1e-2, atol=1e-2 if dtype == np.float16 else 1e-5
        )
    operators = {node.op_type for node in onnx.load(tmp_path / MODEL).graph.node}
    assert (operator in operators) == (operator == "LayerNormalization")


def test_an_operator_that_the_opset_does_not_have_is_named(tmp_path: Path) -> None:
    proto = mlp()
    proto.graph.node[1].op_type = "Relu7"
    with pytest.raises(InvalidModel, match="the operator Relu7, which version 17 of its"):
        inspect_model(write(proto, tmp_path / "upload"), tmp_path)


def test_a_sparse_weight_becomes_dense(tmp_path: Path) -> None:
    proto = mlp()
    dense = np.zeros((4, 8), np.float32)
    dense[1, 2] = 5
    weight = proto.graph.initializer.pop(0)
    values = onnx.numpy_helper.from_array(np.array([5], np.float32), weight.name)
    indices = onnx.numpy_helper.from_array(np.array([[1, 2]]), "i")
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4, 8]))
    inspect_model(write(proto, tmp_path / "upload"), tmp_path)
    stored = load(tmp_path / MODEL).graph.initializers["w1"].const_value
    np.testing.assert_array_equal(stored.numpy(), dense)  # type: ignore[union-attr]


def with_default(name: str) -> onnx.ModelProto:
    """Return the MLP with a bias that a run may give, and may leave out."""
    proto = mlp()
    proto.graph.input.append(value(name, 3))
    return proto


def test_an_input_with_a_default_becomes_a_constant_and_is_named(tmp_path: Path) -> None:
    found = inspect_model(write(with_default("b2"), tmp_path / "upload"), tmp_path)
    assert [each.name for each in found.inputs] == ["x"]
    assert "default value became constants of that value: 'b2'. If" in found.notes[0]
    session = runtime.open_session(tmp_path / MODEL)
    assert runtime.run(session, {"x": np.zeros((1, 4), np.float32)})["y"].tolist() == [[1, 1, 1]]


def test_weights_that_old_exporters_list_as_inputs_have_no_note(tmp_path: Path) -> None:
    proto = mlp()
    for weight in proto.graph.initializer:
        proto.graph.input.append(value(weight.name, *weight.dims))
    assert inspect_model(write(proto, tmp_path / "upload"), tmp_path).notes == []


def test_a_model_that_draws_random_numbers_is_named_with_its_node(tmp_path: Path) -> None:
    proto = mlp()
    proto.graph.node[1].op_type = "RandomNormalLike"
    found = inspect_model(write(proto, tmp_path / "upload"), tmp_path)
    words = "Node 'relu' (RandomNormalLike) draws random numbers"
    assert found.notes[0].startswith(words)
    with pytest.raises(DatasetMismatch) as refused:
        synthetic.draw(tmp_path / ORIGINAL, seed=0)
    assert refused.value.detail.startswith(words)
    assert "name a dataset" in refused.value.detail


def test_a_classifier_that_answers_in_maps_is_told_how_to_answer_in_tensors(tmp_path: Path) -> None:
    proto = mlp()
    kind = helper.make_map_type_proto(
        onnx.TensorProto.INT64, helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, None)
    )
    proto.graph.output.append(
        helper.make_value_info("scores", helper.make_sequence_type_proto(kind))
    )
    with pytest.raises(InvalidModel, match="without ZipMap"):
        inspect_model(write(proto, tmp_path / "upload"), tmp_path)


def test_a_refusal_names_no_path_of_this_machine(tmp_path: Path) -> None:
    proto = mlp()
    proto.graph.node[1].op_type = "Nonsense"
    with pytest.raises(InvalidModel) as refusal:
        inspect_model(write(proto, tmp_path / "upload"), tmp_path)
    assert "Nonsense" in refusal.value.detail
    assert str(tmp_path) not in refusal.value.detail


def test_people_see_the_graph_and_how_its_weights_lie(tmp_path: Path) -> None:
    description = inspect_model(write(convnet(), tmp_path / "upload"), tmp_path)
    graph = load(tmp_path / MODEL).graph
    assert [node.operator for node in description.nodes] == [node.op_type for node in graph]
    read = {
        (source, index) for index, node in enumerate(description.nodes) for source in node.reads
    }
    made = {value: index for index, node in enumerate(graph) for value in node.outputs}
    assert read == {
        (made[value], index)
        for index, node in enumerate(graph)
        for value in node.inputs
        if value in made
    }
    weighty = {layer.name for layer in description.layers if layer.parameters}
    assert set(description.distributions) == weighty
    proto = onnx.load(tmp_path / MODEL).graph
    stored = {each.name: numpy_helper.to_array(each) for each in proto.initializer}
    slots = {node.name: list(node.input)[1:] for node in proto.node}
    for name, spread in description.distributions.items():
        values = stored[slots[name][0]]
        assert (spread.low, spread.high) == (values.min(), values.max())
        assert sum(spread.counts) == values.size
