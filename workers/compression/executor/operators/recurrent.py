"""Recurrent layers, computed by torch's kernels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from workers.compression.executor.node import Node, Unsupported
from workers.compression.executor.plan import Function


@dataclass(frozen=True)
class RecurrentAttributes:
    """The attributes of a recurrent node."""

    direction: str
    batch_first: bool
    order: tuple[int, ...]
    """For each gate in torch's order, its index in ONNX's order."""

    @classmethod
    def of(
        cls, node: Node, order: tuple[int, ...], activations: Sequence[str]
    ) -> "RecurrentAttributes":
        """Read a node's attributes.

        Raises:
            Unsupported: torch's kernels do not have such a node.
        """
        direction = node.text("direction", "forward")
        count = 2 if direction == "bidirectional" else 1
        if (node.texts("activations") or tuple(activations) * count) != tuple(activations) * count:
            raise Unsupported(f"{node.op_type} with other activations than its own")
        if node.real("clip") or node.integer("input_forget") or node.has(7):
            raise Unsupported(f"{node.op_type} with clipping, coupled gates or peepholes")
        if node.has(4):
            raise Unsupported(f"{node.op_type} with a length for each sequence")
        return cls(direction, bool(node.integer("layout")), order)


def lstm(node: Node) -> Function:
    """LSTM."""
    attributes = RecurrentAttributes.of(node, (0, 2, 3, 1), ("Sigmoid", "Tanh", "Tanh"))
    return partial(_lstm, attributes)


def gru(node: Node) -> Function:
    """GRU, whose reset gate acts before or after the product with the state."""
    attributes = RecurrentAttributes.of(node, (1, 0, 2), ("Sigmoid", "Tanh"))
    if node.integer("linear_before_reset"):
        return partial(_single, torch.gru, attributes)
    return partial(_gru_reset_before_product, attributes)


def rnn(node: Node) -> Function:
    """RNN with tanh or relu."""
    rectified = set(node.texts("activations")) == {"Relu"}
    attributes = RecurrentAttributes.of(node, (0,), ("Relu",) if rectified else ("Tanh",))
    return partial(_single, torch.rnn_relu if rectified else torch.rnn_tanh, attributes)


def _lstm(
    attributes: RecurrentAttributes,
    x: Tensor,
    weight: Tensor,
    recurrence: Tensor,
    bias: Tensor | None = None,
    _lengths: None = None,
    state: Tensor | None = None,
    cell: Tensor | None = None,
) -> tuple[Tensor, ...]:
    start = _start(attributes, x, recurrence, state)
    memory = _start(attributes, x, recurrence, cell)
    return _run(attributes, torch.lstm, (start, memory), x, weight, recurrence, bias)


def _single(
    kernel: Callable[..., Any],
    attributes: RecurrentAttributes,
    x: Tensor,
    weight: Tensor,
    recurrence: Tensor,
    bias: Tensor | None = None,
    _lengths: None = None,
    state: Tensor | None = None,
) -> tuple[Tensor, ...]:
    start = _start(attributes, x, recurrence, state)
    return _run(attributes, kernel, start, x, weight, recurrence, bias)


def _start(
    attributes: RecurrentAttributes, x: Tensor, recurrence: Tensor, state: Tensor | None
) -> Tensor:
    """Return the initial state, ``[directions, batch, width]``; zeros if the node has none."""
    if state is not None:
        return state.transpose(0, 1).contiguous() if attributes.batch_first else state
    batch = x.shape[0 if attributes.batch_first else 1]
    return x.new_zeros(recurrence.shape[0], batch, recurrence.shape[2])


def _run(
    attributes: RecurrentAttributes,
    kernel: Callable[..., Any],
    start: Any,
    x: Tensor,
    weight: Tensor,
    recurrence: Tensor,
    bias: Tensor | None,
) -> tuple[Tensor, ...]:
    """Run a kernel over ``[time, batch, width]`` and return its results with ONNX's axes.

    Returns:
        All states ``[time, directions, batch, width]``, the last states ``[directions, batch,
        width]``, and for an LSTM the last cells; with the batch first if the attributes say so.
    """
    x = x.transpose(0, 1) if attributes.batch_first else x
    x = x.flip(0) if attributes.direction == "reverse" else x
    weights = _flat(attributes, weight, recurrence, bias)
    bidirectional = attributes.direction == "bidirectional"
    trains = torch.is_grad_enabled()
    y, *last = kernel(x, start, weights, bias is not None, 1, 0.0, trains, bidirectional, False)
    y = y.flip(0) if attributes.direction == "reverse" else y
    y = y.reshape(*y.shape[:2], recurrence.shape[0], -1)
    if attributes.batch_first:
        return (y.transpose(0, 1), *(final.transpose(0, 1) for final in last))
    return (y.transpose(1, 2), *last)


def _flat(
    attributes: RecurrentAttributes, weight: Tensor, recurrence: Tensor, bias: Tensor | None
) -> list[Tensor]:
    """Return torch's list of weights.

    For each direction: the weight of the input, the weight of the state, and their biases.
    """
    gates = len(attributes.order)
    ordered = []
    for index in range(weight.shape[0]):
        tensors = [weight[index], recurrence[index]]
        tensors += [] if bias is None else list(bias[index].chunk(2))
        for tensor in tensors:
            pieces = tensor.chunk(gates)
            ordered.append(
                torch.cat([pieces[gate] for gate in attributes.order]) if gates > 1 else tensor
            )
    return ordered


def _gru_reset_before_product(
    attributes: RecurrentAttributes,
    x: Tensor,
    weight: Tensor,
    recurrence: Tensor,
    bias: Tensor | None = None,
    _lengths: None = None,
    state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute a GRU whose reset gate acts before the product with the state; torch has none."""
    x = x.transpose(0, 1) if attributes.batch_first else x
    start = _start(
        attributes, x.transpose(0, 1) if attributes.batch_first else x, recurrence, state
    )
    if bias is None:
        bias = x.new_zeros(weight.shape[0], 2 * weight.shape[1])
    rows, last = [], []
    for index in range(weight.shape[0]):
        backward = attributes.direction == "reverse" or index == 1
        states = _gru_states(
            x.flip(0) if backward else x,
            start[index],
            weight[index],
            recurrence[index],
            bias[index],
        )
        last.append(states[-1])
        rows.append(torch.stack(states[::-1] if backward else states))
    y, final = torch.stack(rows, 1), torch.stack(last)
    return (y.permute(2, 0, 1, 3), final.transpose(0, 1)) if attributes.batch_first else (y, final)


def _gru_states(
    x: Tensor, state: Tensor, weight: Tensor, recurrence: Tensor, bias: Tensor
) -> list[Tensor]:
    width = state.shape[-1]
    input_bias, state_bias = bias.chunk(2)
    inputs = torch.nn.functional.linear(x, weight, input_bias + state_bias)
    states = []
    for row in inputs:
        gates = torch.sigmoid(row[:, : 2 * width] + state @ recurrence[: 2 * width].t())
        update, reset = gates.chunk(2, -1)
        candidate = torch.tanh(row[:, 2 * width :] + (reset * state) @ recurrence[2 * width :].t())
        state = (1 - update) * candidate + update * state
        states.append(state)
    return states
