"""Exports Keras's LSTM and GRU layers as one operator instead of one copy per time step.

Keras unrolls them in torch, which fixes the length and makes hundreds of nodes. During an export
these layers are torch's own operators with the same weights. Outside of an export they stay
Keras's, so that the graph is compared with Keras itself.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from workers.compression.intake.sources.keras_files import layers_of

_Loop = Callable[..., Any]


def fuse(model: Any) -> None:
    """Make every layer with the standard equations export as one operator."""
    loops: dict[str, Callable[[Any, Tensor, Any], Any]] = {"LSTM": _lstm, "GRU": _gru}
    for layer in layers_of(model):
        fused = loops.get(type(layer).__name__)
        if fused is not None and _is_standard(layer):
            layer.inner_loop = _while_exporting(layer, fused)


def _is_standard(layer: Any) -> bool:
    activations = (layer.activation.__name__, layer.recurrent_activation.__name__)
    return activations == ("tanh", "sigmoid") and getattr(layer, "reset_after", True)


def _while_exporting(layer: Any, fused: Callable[[Any, Tensor, Any], Any]) -> _Loop:
    original_loop: _Loop = layer.inner_loop

    def loop(sequences: Tensor, initial_state: Any, mask: Any, training: bool = False) -> Any:
        masked = mask is not None and any(state_mask is not None for state_mask in _listed(mask))
        if masked or not torch.compiler.is_exporting():
            return original_loop(sequences, initial_state, mask, training=training)
        turned = torch.flip(sequences, [1]) if layer.go_backwards else sequences
        outputs, states = fused(layer, turned, _listed(initial_state))
        return outputs[:, -1], outputs, states

    return loop


def _lstm(layer: Any, sequences: Tensor, states: Any) -> Any:
    """Run a layer by torch. Keras and torch order the gates alike: input, forget, cell, output."""
    cell = layer.cell
    bias = _bias(cell, 4)
    weights = [cell.kernel.value.T, cell.recurrent_kernel.value.T, bias, torch.zeros_like(bias)]
    start = (states[0].unsqueeze(0), states[1].unsqueeze(0))
    outputs, hidden, inner = torch.lstm(sequences, start, weights, True, 1, 0.0, False, False, True)
    return outputs, [hidden[0], inner[0]]


def _gru(layer: Any, sequences: Tensor, states: Any) -> Any:
    """Run a layer by torch. Keras has the update gate first, torch the reset gate."""
    cell, units = layer.cell, layer.units
    order = [1, 0, 2]

    def gates(tensor: Tensor) -> Tensor:
        return torch.cat([tensor[gate * units : (gate + 1) * units] for gate in order])

    both = _bias(cell, 3, 2)
    weights = [
        gates(cell.kernel.value.T),
        gates(cell.recurrent_kernel.value.T),
        gates(both[0]),
        gates(both[1]),
    ]
    outputs, hidden = torch.gru(
        sequences, states[0].unsqueeze(0), weights, True, 1, 0.0, False, False, True
    )
    return outputs, [hidden[0]]


def _bias(cell: Any, gates: int, rows: int = 1) -> Tensor:
    if cell.bias is not None:
        bias: Tensor = cell.bias.value
        return bias
    size = gates * cell.units
    return torch.zeros(size if rows == 1 else (rows, size))


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
