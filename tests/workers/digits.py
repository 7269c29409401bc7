"""A small residual network, trained on half of scikit-learn's digits."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from sklearn.datasets import load_digits
from torch import nn

from app.domain.directory import MODEL
from app.domain.steps import Prune
from workers.compression.graph import runtime
from workers.compression.graph.load import load, save
from workers.compression.intake.inspect import inspect_model
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.prune import prune
from workers.compression.samples.context import Context, Samples


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 32, 3, padding=1)
        self.first, self.second = nn.Conv2d(32, 32, 3, padding=1), nn.Conv2d(32, 32, 3, padding=1)
        self.down = nn.Conv2d(32, 64, 3, 2, 1)
        self.head = nn.Linear(64, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(image))
        x = torch.relu(x + self.second(torch.relu(self.first(x))))
        answer: torch.Tensor = self.head(torch.relu(self.down(x)).mean((2, 3)))
        return answer


@dataclass(frozen=True)
class Trained:
    """A trained graph, the data it was trained on, and other data."""

    path: Path
    train: Samples
    held_out: Samples

    def prune(self, *, labels: bool = True, data: bool = True, **parameters: Any) -> Outcome:
        """Prune a copy."""
        train = self.train if labels else Samples(self.train.arrays, None, self.train.indices)
        context = Context(train if data else None, seed=0, threads=1, original=self.path)
        return prune(load(self.path), Prune(**parameters), context, lambda _: None)

    def accuracy(self, model: ir.Model, directory: Path) -> float:
        """Return the share of held-out samples that a graph gets right."""
        save(model, directory / "judged.onnx")
        session = runtime.open_session(directory / "judged.onnx")
        rows = list(self.held_out.indices)
        answers = runtime.run(session, {"image": self.held_out.arrays["image"][rows]})["logits"]
        assert self.held_out.targets is not None
        return float((answers.argmax(1) == self.held_out.targets[rows]).mean())


def train(directory: Path) -> Trained:
    """Train the network and store its graph in a directory."""
    digits = load_digits()
    images = (digits.images[:, None] / 16).astype(np.float32)
    samples = Samples({"image": images}, digits.target.astype(np.int64), list(range(900)))
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = _Net()
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    x, y = torch.from_numpy(images[:900]), torch.from_numpy(digits.target[:900]).long()
    for _ in range(12):
        for rows in torch.randperm(900).split(64):  # type: ignore[no-untyped-call]
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net.eval(), (x[:2],), directory / "upload", input_names=["image"],
            output_names=["logits"], dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True, external_data=False, verbose=False,
        )  # fmt: skip
    inspect_model(directory / "upload", directory)
    return Trained(directory / MODEL, samples, samples.take(list(range(900, 1797))))
