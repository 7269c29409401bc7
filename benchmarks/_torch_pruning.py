"""Torch-Pruning (Fang et al. 2023) on a network of the task, set up as its own experiments are.

Importances, pruners, global ranking, 400 small steps up to the wanted MACs and the head left whole
are those of its ``reproduce/main.py`` for ``group_norm``, ``l1`` and ``slim``. There is no sparse
training before the cut: all epochs go into the training after it.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

try:
    import torch_pruning as tp
except ModuleNotFoundError as error:
    raise SystemExit("Torch-Pruning is missing: pip install -e '.[bench]'") from error

PRUNERS: Mapping[str, tuple[Callable[..., Any], Callable[[], Any]]] = {
    "group": (tp.pruner.GroupNormPruner, lambda: tp.importance.GroupMagnitudeImportance(p=2)),
    "l1": (tp.pruner.MagnitudePruner, lambda: tp.importance.MagnitudeImportance(p=1)),
    "bn": (tp.pruner.BNScalePruner, tp.importance.BNScaleImportance),
}
"""A pruner and its importance."""

_STEPS = 400


def cut(network: nn.Module, pruner: str, times: float) -> nn.Module:
    """Return a copy with at least so many times fewer MACs.

    Args:
        network: for images ``[N, 1, 32, 32]``; its last Linear layer is the head.
        pruner: of ``PRUNERS``.
        times: the MACs before over those after.
    """
    network = copy.deepcopy(network).eval()
    image = torch.zeros(1, 1, 32, 32)
    kind, importance = PRUNERS[pruner]
    head = [each for each in network.modules() if isinstance(each, nn.Linear)][-1]
    steps = kind(
        network,
        image,
        importance=importance(),
        global_pruning=True,
        pruning_ratio=1.0,
        iterative_steps=_STEPS,
        ignored_layers=[head],
    )
    wanted = macs(network, image) / times
    while macs(network, image) > wanted and steps.current_step < _STEPS:
        steps.step()
    return network


@torch.no_grad()
def macs(network: nn.Module, image: Tensor) -> int:
    """Count the multiply-accumulates of convolutions and products, as the engine counts them."""
    total = 0

    def count(layer: nn.Module, _inputs: Any, outputs: Tensor) -> None:
        nonlocal total
        weight = layer.weight
        assert isinstance(weight, Tensor), "a convolution or a product has one"
        total += outputs[0].numel() * weight[0].numel()

    layers = [each for each in network.modules() if isinstance(each, nn.Conv2d | nn.Linear)]
    hooks = [each.register_forward_hook(count) for each in layers]
    network(image)
    for hook in hooks:
        hook.remove()
    return total
