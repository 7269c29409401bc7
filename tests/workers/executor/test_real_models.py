"""Models that others trained and exported: same outputs, and all of their weights are trained."""

from pathlib import Path

import pytest
import rapidocr
import torch

from workers.compression.executor import build, write_back
from workers.compression.graph import equivalence, runtime
from workers.compression.graph.load import load, save
from workers.compression.graph.rewrites import normalize
from workers.compression.graph.trials import find_trials

MODELS = Path(rapidocr.__file__).parent / "models"


@pytest.mark.parametrize("name", ["PP-OCRv6_det_small.onnx", "PP-OCRv6_rec_small.onnx"])
def test_a_real_model_runs_and_trains(name: str, tmp_path: Path) -> None:
    """Outputs to 1e-4 of the largest; a step of training lowers the loss, and is written."""
    reference = load(MODELS / name)
    trials = find_trials(reference, MODELS / name)
    graph, _ = normalize(MODELS / name, trials)
    executor = build(graph)
    assert executor.frozen == []
    feeds = {key: torch.from_numpy(array) for key, array in trials[0].feeds.items()}
    found = executor(feeds)
    arrays = {key: tensor.detach().numpy() for key, tensor in found.items()}
    assert equivalence.difference(trials[0].outputs, arrays) is None
    optimizer = torch.optim.SGD(executor.parameters(), 1e-3)
    (output,) = found.values()
    target = output.detach().roll(1, -1)
    loss = (output - target).square().mean()
    loss.backward()
    assert [key for key, each in executor.named_parameters() if each.grad is None] == []
    optimizer.step()
    with torch.no_grad():
        (moved,) = executor(feeds).values()
    assert (moved - target).square().mean().item() < loss.item()
    write_back(executor, graph)
    save(graph, tmp_path / "trained.onnx")
    written = runtime.run(runtime.open_session(tmp_path / "trained.onnx"), trials[0].feeds)
    assert equivalence.difference(written, {key: moved.numpy() for key in found}) is None
