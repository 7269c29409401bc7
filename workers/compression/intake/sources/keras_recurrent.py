"""Exports what Keras runs once for each moment as one operator.

Keras unrolls it in torch, which fixes the number of moments, often the batch too, and makes
hundreds of nodes. During an export, an LSTM or a GRU with the standard equations is torch's own
operator with the same weights, any other recurrent layer a Scan over its cell. Outside of an export
all layers stay Keras's, so that the graph is compared with Keras itself.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from workers.compression.intake.sources import keras_steps
from workers.compression.intake.sources.keras_files import layers_of

_Fused = Callable[[Any, Tensor, Any], Any]


def fuse(model: Any) -> None:
    """Make every layer that goes through moments export as one operator."""
    import keras

    for layer in layers_of(model):
        if isinstance(layer, keras.layers.RNN):
            layer.inner_loop = _loop(layer)
        elif isinstance(layer, keras.layers.TimeDistributed):
            layer.call = _distributed(layer)


def _loop(layer: Any) -> Callable[..., Any]:
    unrolled, fused = layer.inner_loop, _fused(layer)

    def loop(sequences: Tensor, initial_state: Any, mask: Any, training: bool = False) -> Any:
        if not torch.compiler.is_exporting():
            return unrolled(sequences, initial_state, mask, training=training)
        states = _listed(initial_state)
        counts = next((each for each in _listed(mask) if each is not None), None)
        if fused is None or counts is not None:
            return keras_steps.recurrent(layer, sequences, states, counts, training)
        turned = torch.flip(sequences, [1]) if layer.go_backwards else sequences
        outputs, states = fused(layer, turned, states)
        return outputs[:, -1], outputs, states

    return loop


def _distributed(layer: Any) -> Callable[..., Any]:
    unrolled = layer.call

    def call(inputs: Tensor, training: Any = None, mask: Any = None) -> Any:
        if not torch.compiler.is_exporting():
            return unrolled(inputs, training=training, mask=mask)
        return keras_steps.distributed(layer, inputs, training, mask)

    return call


def _fused(layer: Any) -> _Fused | None:
    """Return what runs a layer as one operator of torch; None where its equations are others."""
    loops: dict[str, _Fused] = {"LSTM": _lstm, "GRU": _gru}
    fused = loops.get(type(layer).__name__)
    if fused is None:
        return None
    activations = (layer.activation.__name__, layer.recurrent_activation.__name__)
    is_standard = activations == ("tanh", "sigmoid") and getattr(layer, "reset_after", True)
    return fused if is_standard else None


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
