"""What distillation promises, on the digits of scikit-learn (8x8 pixels)."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from sklearn.datasets import load_digits

from app.domain.problems import StepFailed
from app.domain.steps import Distill
from app.domain.steps.distill import Architecture, DistillLoss, Scale
from app.domain.steps.recover import Recover
from tests.workers import zoo
from tests.workers.learning import nets
from workers.compression.graph import runtime, stats
from workers.compression.graph.editor import name_nodes
from workers.compression.graph.load import load, save, weight_bytes
from workers.compression.graph.rewrites.batchnorm import fold_batchnorm
from workers.compression.graph.shapes import sizes_of
from workers.compression.learning.feed import usual_kinds
from workers.compression.learning.recovery import recover
from workers.compression.methods.distill import distill
from workers.compression.methods.distill.build import build_student
from workers.compression.methods.distill.defaults import harmless, kappa, resolved
from workers.compression.methods.distill.derive import derive
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.prune.channels import changes
from workers.compression.samples.context import Context, Samples

DIGITS = load_digits()
IMAGES = (DIGITS.images[:, None] / 16).astype(np.float32)
CLASSES = DIGITS.target.astype(np.int64)
SEEN = 1000

CNN = """
<ir_version: 10, opset_import: ["": 21]>
cnn (float[BATCH, 1, 8, 8] x) => (float[BATCH, 10] y)
{
    a = Conv<pads=[1, 1, 1, 1]>(x, k1, b1)
    r1 = Relu(a)
    c = Conv<pads=[1, 1, 1, 1], strides=[2, 2]>(r1, k2, b2)
    r2 = Relu(c)
    d = Conv<pads=[1, 1, 1, 1]>(r2, k3, b3)
    s = Add(d, r2)
    r3 = Relu(s)
    f = Flatten(r3)
    y = Gemm<transB=1>(f, w, b)
}
"""
SHAPES = {
    "k1": (16, 1, 3, 3), "b1": (16,), "k2": (32, 16, 3, 3), "b2": (32,), "k3": (32, 32, 3, 3),
    "b3": (32,), "w": (10, 512), "b": (10,),
}  # fmt: skip


def silent(_fraction: float) -> None:
    """Progress that nobody watches."""


def context(original: Path | None, *, labelled: bool = False, seed: int = 0) -> Context:
    samples = Samples({"x": IMAGES}, CLASSES if labelled else None, range(SEEN))
    example = {"x": IMAGES[:1]}
    return Context(train=samples, seed=seed, threads=1, example=example, original=original)


def answers(model: ir.Model, directory: Path) -> np.ndarray:
    """Return the classes that a graph gives for samples that nobody was trained on."""
    save(model, directory / "answering.onnx")
    session = runtime.open_session(directory / "answering.onnx")
    found: np.ndarray = runtime.run(session, {"x": IMAGES[SEEN:]})["y"].argmax(1)
    return found


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that knows digits."""
    path = tmp_path_factory.mktemp("teacher") / "teacher.onnx"
    model = nets.graph(CNN, SHAPES)
    name_nodes(model)
    wish = Recover(loss="labels", epochs=6, learning_rate=3e-3)
    save(recover(model, wish, context(None, labelled=True), silent), path)
    assert np.mean(answers(load(path), path.parent) == CLASSES[SEEN:]) > 0.9
    return path


def distilled(teacher: Path, *, labelled: bool = False, **parameters: Any) -> Outcome:
    training = {"recover": {"epochs": 4, "learning_rate": 3e-3}}
    wish = Distill.model_validate(training | parameters)
    return distill(load(teacher), wish, context(teacher, labelled=labelled), silent)


def agreement(model: ir.Model, teacher: Path, directory: Path) -> float:
    return float(np.mean(answers(model, directory) == answers(load(teacher), directory)))


def test_a_derived_student_learns_from_the_teacher_without_labels(
    teacher: Path, tmp_path: Path
) -> None:
    outcome = distilled(teacher, student={"derive": {"width": 0.25}})
    assert agreement(outcome.model, teacher, tmp_path) > 0.95
    assert any("32 → 8" in layer.change for layer in outcome.layers)


@pytest.mark.parametrize("architecture", ["mlp", "resnet_cifar"])
def test_an_architecture_learns_from_the_teacher_without_labels(
    teacher: Path, tmp_path: Path, architecture: str
) -> None:
    training = {"epochs": 8, "learning_rate": 3e-3}
    student = {"architecture": architecture, "width": 0.5}
    outcome = distilled(teacher, student=student, recover=training)
    assert agreement(outcome.model, teacher, tmp_path) > 0.85
    assert "BatchNormalization" not in stats.operators(outcome.model)
    assert architecture in outcome.layers[0].change


@pytest.mark.parametrize("kind", ["features", "attention", "relational", "labels"])
def test_each_loss_helps_where_it_is_added(teacher: Path, tmp_path: Path, kind: str) -> None:
    outcome = distilled(
        teacher,
        labelled=True,
        student={"derive": {"width": 0.5}},
        losses=[{"kind": "soft_targets"}, {"kind": kind}],
    )
    assert agreement(outcome.model, teacher, tmp_path) > 0.85


def test_projections_are_thrown_away(teacher: Path) -> None:
    outcome = distilled(teacher, student={"derive": {}}, losses=[{"kind": "features"}])
    assert set(outcome.model.graph.initializers) <= {
        f"{name}{end}" for name in SHAPES for end in ("", "_cut", "_cut_1")
    }


@pytest.mark.parametrize("of", ["macs", "parameters", "size"])
def test_a_width_is_found_for_what_the_student_may_cost(teacher: Path, of: str) -> None:
    original, about = load(teacher), context(teacher)

    def costs(model: ir.Model) -> dict[str, int]:
        fold_batchnorm(model)
        figures = stats.measure(model, sizes_of(model, about.example), about.example)
        size = weight_bytes(model)
        return {"macs": figures.macs, "parameters": figures.parameters, "size": size}

    wish = Architecture.model_validate({"architecture": "mlp", "ratio": 0.5, "of": of})
    student, name = build_student(original, wish, about)
    wider = Architecture(architecture="mlp", width=1.2 * float(name.split()[-1]))
    allowed = 0.5 * costs(original)[of]
    assert costs(student)[of] <= allowed < costs(build_student(original, wider, about)[0])[of]


def test_a_student_that_costs_too_much_at_any_width_is_refused(teacher: Path) -> None:
    wish = Architecture(architecture="mobilenet_v2", ratio=0.99)
    with pytest.raises(StepFailed, match="narrowest mobilenet_v2"):
        build_student(load(teacher), wish, context(teacher))


def test_labels_are_learned_where_there_are_classes_and_nothing_else_was_asked(
    teacher: Path,
) -> None:
    def kinds(**samples: Any) -> list[str]:
        found = resolved(Distill(), load(teacher), context(teacher, **samples)).losses
        return [loss.kind for loss in found or []]

    assert kinds(labelled=True) == ["soft_targets", "labels"]
    assert kinds(labelled=False) == ["soft_targets"]


def test_labels_are_not_learned_where_images_are_mixed(teacher: Path) -> None:
    mixing = Recover(augment=["mix"])
    found = resolved(Distill(recover=mixing), load(teacher), context(teacher, labelled=True))
    assert [loss.kind for loss in found.losses or []] == ["soft_targets"]
    with pytest.raises(ValueError, match="learn from the teacher alone"):
        Distill(losses=[DistillLoss(kind="labels")], recover=mixing)


def test_images_that_were_made_from_the_teacher_are_mixed(teacher: Path) -> None:
    about = context(teacher)
    assert about.train is not None
    made = replace(about.train, made=True)
    assert usual_kinds(about.train) == []
    assert usual_kinds(made) == ["mix"]
    assert usual_kinds(replace(made, arrays={"x": IMAGES.reshape(len(IMAGES), -1)})) == []
    built = Distill(student=Architecture(architecture="mlp"))
    recover = resolved(built, load(teacher), replace(about, train=made)).recover
    assert recover.augment == ["mix"]


@pytest.mark.parametrize(
    ("epochs", "asked", "size"), [(1, None, 32), (40, None, 40), (1000, None, 62), (1, 7, 7)]
)
def test_a_student_from_nothing_gets_a_thousand_steps_where_batches_may_be_small(
    teacher: Path, epochs: int, asked: int | None, size: int
) -> None:
    """62 of 1,000 samples are what any other training takes at once."""
    wish = Distill(
        student=Architecture(architecture="mlp"),
        recover=Recover(epochs=epochs, batch_size=asked, augment=[]),
    )
    assert resolved(wish, load(teacher), context(teacher)).recover.batch_size == size


def test_a_student_that_goes_on_from_weights_is_trained_as_others_are(teacher: Path) -> None:
    recover = resolved(Distill(), load(teacher), context(teacher)).recover
    assert (recover.batch_size, recover.augment) == (None, None)


@pytest.mark.parametrize("labelled", [True, False])
def test_digits_are_not_mirrored_as_their_teacher_tells_them_from_their_mirror_images(
    teacher: Path, labelled: bool
) -> None:
    about = context(teacher, labelled=labelled)
    assert about.train is not None
    assert harmless(load(teacher), about.train, about) == []


def bright(slope: float) -> ir.Model:
    """Return a network that tells bright images, and takes the left half for more or for less."""
    columns = 1 + slope * np.array([1, 1, 1, 1, -1, -1, -1, -1])
    weight = np.tile(columns / 64, 8)[:, None] * [[1, -1]]
    values = ", ".join(f"{number:.8f}" for number in weight.flatten())
    return ir.from_onnx_text(
        f"""
        <ir_version: 10, opset_import: ["": 21]>
        bright (float[BATCH, 1, 8, 8] x) => (float[BATCH, 2] y)
        <float[64, 2] w = {{{values}}}>
        {{
            f = Flatten(x)
            y = MatMul(f, w)
        }}
        """
    )


@pytest.mark.parametrize(
    ("slope", "labelled", "changes"),
    [(0, False, ["flip"]), (0, True, ["flip"]), (1, True, ["flip"]), (1, False, [])],
)
def test_images_are_mirrored_where_the_teacher_knows_them_as_well(
    slope: float, labelled: bool, changes: list[str]
) -> None:
    """With a slope it is wrong about every fourth image, and knows as much of mirrored ones."""
    images = nets.inputs(SEEN, 1, 8, 8)
    classes = (images.mean((1, 2, 3)) < 0).astype(np.int64)
    samples = Samples({"x": images}, classes if labelled else None, range(SEEN))
    about = Context(train=samples, seed=0, threads=1, example={"x": images[:1]})
    assert harmless(bright(slope), samples, about) == changes


def test_kappa_leaves_out_what_agrees_by_chance() -> None:
    random = np.random.default_rng(0)
    one = random.integers(0, 3, 4000)
    assert kappa(one, one) == pytest.approx(1.0)
    assert abs(kappa(one, random.permutation(one))) < 0.05
    mostly = (random.random(4000) < 0.05).astype(np.int64)
    assert abs(kappa(mostly, random.permutation(mostly))) < 0.05
    assert kappa(np.zeros(5, np.int64), np.zeros(5, np.int64)) == 0.0
    half = np.where(random.random(4000) < 0.5, one, (one + 1) % 3)
    assert kappa(one, half) == pytest.approx(0.25, abs=0.05)


def test_the_same_seed_gives_the_same_weights(teacher: Path) -> None:
    one, other = (
        nets.weights(distilled(teacher, student={"architecture": "mlp", "width": 0.1}).model)
        for _ in range(2)
    )
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_the_previous_graph_may_teach(teacher: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.onnx"
    save(nets.graph(CNN, SHAPES, seed=5), other)
    wish = Distill.model_validate(
        {"teacher": "previous", "student": {"derive": {"width": 0.5}}, "recover": {"epochs": 2}}
    )
    outcome = distill(load(teacher), wish, context(other), silent)
    assert agreement(outcome.model, teacher, tmp_path) > 0.8


def test_attention_needs_layers_with_places(teacher: Path) -> None:
    with pytest.raises(StepFailed, match="attention"):
        distilled(teacher, student={"architecture": "mlp"}, losses=[{"kind": "attention"}])


def test_without_data_nobody_learns(teacher: Path) -> None:
    nothing = Context(train=None, seed=0, threads=1, example={"x": IMAGES[:1]}, original=teacher)
    with pytest.raises(StepFailed, match="dataset"):
        distill(load(teacher), Distill(), nothing, silent)


@pytest.mark.parametrize(("depth", "sums"), [(1.0, 4), (0.5, 2), (0.1, 1)])
def test_depth_is_the_share_of_residual_blocks_that_stay(
    depth: float, sums: int, tmp_path: Path
) -> None:
    feeds = {"image": zoo.feeds("vit", 2)["image"].numpy()}
    example = {"image": feeds["image"][:1]}
    whole = zoo.graph("vit")
    name_nodes(whole)
    shallow, skipped, _ = derive(
        whole,
        Scale(depth=depth),
        Context(train=None, seed=0, threads=1, example=example),
        silent,
    )
    assert not skipped
    dropped = [each for each in changes(whole, shallow) if each.change == "dropped"]
    assert bool(dropped) == (sums < 4)
    kept = stats.measure(shallow, {"batch": 1}).parameters
    assert stats.measure(whole, {"batch": 1}).parameters - kept >= len(dropped)
    save(shallow, tmp_path / "shallow.onnx")
    session = runtime.open_session(tmp_path / "shallow.onnx")
    assert runtime.run(session, feeds)["output"].shape == (2, 10)


@pytest.mark.parametrize("multiple", [None, 16])
def test_a_narrower_student_keeps_a_multiple_of_channels(multiple: int | None) -> None:
    context = Context(train=None, seed=0, threads=1)
    model = zoo.graph("residual")
    name_nodes(model)
    _, _, kept = derive(model, Scale(width=0.7), context, silent, multiple)
    weights = {name: v.shape.numpy() for name, v in model.graph.initializers.items() if v.shape}
    left = [
        len(indices)
        for name, axes in kept.items()
        for axis, indices in axes.items()
        if weights[name][axis] >= 32
    ]
    assert left
    assert all(count % (multiple or 8) == 0 for count in left)


def test_a_graph_without_blocks_keeps_its_depth() -> None:
    model = nets.graph(nets.MLP, nets.MLP_SHAPES)
    example = {"x": np.zeros((1, 8), np.float32)}
    nothing = Context(train=None, seed=0, threads=1, example=example)
    _, skipped, _ = derive(model, Scale(depth=0.5), nothing, silent)
    assert "residual blocks" in skipped[0].reason
