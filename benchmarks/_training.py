"""How benchmarks train small networks for images, and write them as ONNX."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

BATCH = 64
WEIGHT_DECAY = 0.01


def one_cycle(
    network: nn.Module,
    loss: Callable[[Tensor], Tensor],
    samples: int,
    epochs: int,
    peak_rate: float,
    batch: int = BATCH,
) -> None:
    """Train with AdamW, one cycle of the learning rate.

    Args:
        network: changed in place.
        loss: of the samples with these indices.
        samples: how many there are.
        epochs: passes over them.
        peak_rate: the learning rate at its highest.
        batch: samples of a step.
    """
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=WEIGHT_DECAY)
    steps = samples // batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak_rate, epochs * steps)
    for _ in range(epochs):
        for chosen in torch.randperm(samples)[: steps * batch].view(-1, batch):
            optimizer.zero_grad()
            torch.autograd.backward(loss(chosen))
            optimizer.step()
            schedule.step()


def export(network: nn.Module, path: Path, side: int = 32, output: str = "logits") -> None:
    """Write a network for grey images as ONNX whose batch is dynamic.

    Args:
        network: for images ``[N, 1, side, side]``.
        path: is written.
        side: the pixels of an image's height and width.
        output: what the network's answer is called.
    """
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload] # tensors only
    torch.onnx.export(
        network.eval(),
        (torch.zeros(2, 1, side, side),),
        path,
        input_names=["image"],
        output_names=[output],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        dynamo=True,
        external_data=False,
        verbose=False,
    )
