"""Weights become the network that is named; whole pickled modules are told what to do."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from app.domain.models import ModelHints, TensorSpec
from tests.workers.intake.sources.reading import EXACT, answers, inspected, rejected
from workers.compression.intake.sources import checkpoint
from workers.compression.intake.sources.program import Program

NETWORK = "timm/test_resnet"
CLASSES = 7


@pytest.fixture(scope="module")
def network() -> nn.Module:

    import timm

    torch.manual_seed(0)
    network: nn.Module = timm.create_model("test_resnet", num_classes=CLASSES).eval()
    return network


def as_safetensors(network: nn.Module, path: Path) -> None:
    save_file(network.state_dict(), path)


def as_checkpoint(network: nn.Module, path: Path) -> None:
    """As a training program on several devices writes it."""
    weights = {f"module.{name}": each for name, each in network.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": weights}, path)


def as_old_checkpoint(network: nn.Module, path: Path) -> None:
    """As torch wrote it before 1.6, and many files still are."""
    torch.save(network.state_dict(), path, _use_new_zipfile_serialization=False)


def as_a_compiled_part(network: nn.Module, path: Path) -> None:
    """Within another module, and of torch.compile, as trainers write safetensors."""
    weights = {f"model._orig_mod.{name}": each for name, each in network.state_dict().items()}
    save_file(weights, path)


@pytest.mark.parametrize(
    "save", [as_safetensors, as_checkpoint, as_old_checkpoint, as_a_compiled_part]
)
def test_classes_are_told_from_the_weights(
    network: nn.Module, tmp_path: Path, save: Callable[[nn.Module, Path], None]
) -> None:
    save(network, tmp_path / "weights")
    found, conversion = inspected(tmp_path / "weights", tmp_path / "job", architecture=NETWORK)
    assert (found.format, conversion.source) == ("safetensors", "timm")
    assert conversion.max_error < EXACT
    assert found.outputs == [TensorSpec(name="logits", dtype="float32", shape=["batch", CLASSES])]
    images = torch.randn(3, *found.inputs[0].shape[1:], generator=torch.Generator().manual_seed(1))  # type: ignore[arg-type]
    (ours,) = answers(tmp_path / "job", images.numpy())
    torch.testing.assert_close(torch.from_numpy(ours), network(images).detach(), rtol=0, atol=EXACT)


def test_weights_of_another_program_are_assigned_in_order(
    network: nn.Module, tmp_path: Path
) -> None:
    other = {
        f"_net{number}.{name.rpartition('.')[2]}": tensor
        for number, (name, tensor) in enumerate(network.state_dict().items())
    }
    torch.save(other, tmp_path / "weights")
    found, conversion = inspected(tmp_path / "weights", tmp_path / "job", architecture=NETWORK)
    assert "assigned in their order" in conversion.warnings[0]
    images = torch.randn(3, *found.inputs[0].shape[1:], generator=torch.Generator().manual_seed(1))  # type: ignore[arg-type]
    (ours,) = answers(tmp_path / "job", images.numpy())
    torch.testing.assert_close(torch.from_numpy(ours), network(images).detach(), rtol=0, atol=EXACT)


def test_blocks_of_another_program_may_name_layers_as_the_network_names_its_first(
    network: nn.Module, tmp_path: Path
) -> None:
    """``part0.conv1`` is a first layer to look at, and what is in ``part0`` no network."""
    weights = network.state_dict()
    program = read(
        {f"part{n}.{name}": weights[name] for n, name in enumerate(weights)}, tmp_path / "w"
    )
    [warning] = program.warnings
    assert "assigned in their order" in warning
    x = torch.ones(1, 3, 64, 64)
    torch.testing.assert_close(program.run([x])[0], network(x).detach())


def test_averages_that_hold_no_weights_by_name_are_passed_over(
    network: nn.Module, tmp_path: Path
) -> None:
    shadow = {"decay": 0.99, "shadow": {"0": torch.zeros(3)}}
    program = read({"ema": shadow, "state_dict": network.state_dict()}, tmp_path / "w")
    assert program.warnings == []
    assert program.weights["fc.weight"].any()


def read(weights: dict[str, Any], path: Path) -> Program:
    """Read a checkpoint, and convert nothing."""
    torch.save(weights, path)
    return checkpoint.read_checkpoint(path, ModelHints(architecture=NETWORK))


def test_what_is_outside_of_the_network_is_left_out_and_named(
    network: nn.Module, tmp_path: Path
) -> None:
    inside = {f"model.backbone.{name}": each for name, each in network.state_dict().items()}
    program = read({"state_dict": {"loss.weight": torch.ones(3), **inside}}, tmp_path / "w")
    [warning] = program.warnings
    assert "1 values of the file are outside of the network ('model.backbone.')" in warning
    assert "'loss.weight'" in warning
    assert set(inside) == set(program.weights), "they go back under the names of the file"
    x = torch.ones(1, 3, 64, 64)
    torch.testing.assert_close(program.run([x])[0], network(x).detach())


def test_of_a_network_and_its_averages_the_averages_are_taken(
    network: nn.Module, tmp_path: Path
) -> None:
    weights = network.state_dict()
    other = {name: torch.zeros_like(each) for name, each in weights.items()}
    apart = read({"state_dict": other, "state_dict_ema": weights}, tmp_path / "w")
    assert "averaged weights ('state_dict_ema')" in apart.warnings[0]
    assert apart.weights["fc.weight"].any()
    averaged = {f"module.{name}": each for name, each in weights.items()}
    swa = read({"n_averaged": torch.tensor(3), **averaged}, tmp_path / "w")
    assert swa.weights["module.fc.weight"].any()
    copies = averaged | {f"teacher.{name}": each for name, each in other.items()}
    both = read(copies, tmp_path / "w")
    assert "2 times ('module.', 'teacher.')" in both.warnings[0]
    assert both.weights["module.fc.weight"].any()


def test_the_size_of_images_is_told_from_the_positions_of_patches(tmp_path: Path) -> None:
    import timm

    network = timm.create_model("test_vit", num_classes=CLASSES, img_size=96)
    torch.save(network.state_dict(), tmp_path / "w")
    hints = ModelHints(architecture="timm/test_vit")
    program = checkpoint.read_checkpoint(tmp_path / "w", hints)
    assert program.inputs[0].shape == ["batch", 3, 96, 96]


def test_weights_of_another_width_are_told_apart(network: nn.Module, tmp_path: Path) -> None:
    weights = network.state_dict()
    name = next(iter(weights))
    with rejected(rf"'{name}' has the shape \[2, 3\], and the network's \["):
        read({**weights, name: torch.ones(2, 3)}, tmp_path / "w")


def test_weights_without_a_name_of_their_network_ask_for_it(
    network: nn.Module, tmp_path: Path
) -> None:
    as_safetensors(network, tmp_path / "weights")
    with rejected(r"\?architecture=timm/"):
        inspected(tmp_path / "weights", tmp_path / "job")


@pytest.mark.parametrize(
    ("architecture", "words"),
    [
        ("timm/test_rexnet", "no network 'test_rexnet'.*timm/test_resnet"),
        ("timm/test_vit", "not those of timm/test_vit"),
    ],
)
def test_another_network_is_told_apart(
    network: nn.Module, tmp_path: Path, architecture: str, words: str
) -> None:
    as_safetensors(network, tmp_path / "weights")
    with rejected(words):
        inspected(tmp_path / "weights", tmp_path / "job", architecture=architecture)


def test_a_pickled_module_is_told_what_to_do(tmp_path: Path) -> None:
    torch.save(nn.Sequential(nn.Linear(2, 2)), tmp_path / "model.pt")
    with rejected(r"torch\.nn\.modules|whole|weights alone.*torch\.jit\.save.*from_torch"):
        inspected(tmp_path / "model.pt", tmp_path / "job", architecture=NETWORK)


class _Attack:
    """Runs a command where it is unpickled."""

    def __init__(self, at: Path) -> None:
        self.at = at

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.at,))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_that_runs_code_does_not(tmp_path: Path, *, zipped: bool) -> None:
    attack = {"weight": _Attack(tmp_path / "stolen")}
    torch.save(attack, tmp_path / "model.pt", _use_new_zipfile_serialization=zipped)
    with rejected("pickle of whole objects"):
        inspected(tmp_path / "model.pt", tmp_path / "job", architecture=NETWORK)
    assert not (tmp_path / "stolen").exists()


@pytest.mark.parametrize("size", [10, 1000])
def test_a_file_that_was_cut_off_is_refused(network: nn.Module, tmp_path: Path, size: int) -> None:
    as_safetensors(network, tmp_path / "weights")
    (tmp_path / "short").write_bytes((tmp_path / "weights").read_bytes()[:size])
    with rejected("broken"):
        inspected(tmp_path / "short", tmp_path / "job", architecture=NETWORK)


def test_a_checkpoint_whose_pickle_is_noise_is_refused(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("m/data.pkl", b"\xff" * 100)
    (tmp_path / "model.pt").write_bytes(packed.getvalue())
    with rejected("broken"):
        inspected(tmp_path / "model.pt", tmp_path / "job", architecture=NETWORK)


def test_a_class_with_an_endless_name_is_named_by_its_beginning(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        archive.writestr("m/data.pkl", b"cstrange\n" + b"x" * 100_000 + b"\n.")
    with rejected(r"whole objects \(strange\.x{72}\)"):
        inspected(tmp_path / "model.pt", tmp_path / "job", architecture=NETWORK)
