"""Recurrent layers, by torch's own kernels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from workers.compression.executor.node import Node, Unsupported
from workers.compression.executor.plan import Function


@dataclass(frozen=True)
class Form:
    """A recurrent node's attributes."""

    direction: str
    batch_first: bool
    order: tuple[int, ...]
    """Where each of torch's gates stands among ONNX's."""

    @classmethod
    def of(cls, node: Node, order: tuple[int, ...], activations: Sequence[str]) -> "Form":
        """Read a node's attributes; refuse what torch's kernels do not have."""
        direction = node.text("direction", "forward")
        count = 2 if direction == "bidirectional" else 1
        if (node.texts("activations") or tuple(activations) * count) != tuple(activations) * count:
            raise Unsupported(f"a {node.op_type} with other activations than its own")
        if node.real("clip") or node.integer("input_forget") or node.has(7):
            raise Unsupported(f"a {node.op_type} with clipping, coupled gates or peepholes")
        if node.has(4):
            raise Unsupported(f"a {node.op_type} with a length for each sequence")
        return cls(direction, bool(node.integer("layout")), order)


def lstm(node: Node) -> Function:
    """LSTM."""
    form = Form.of(node, (0, 2, 3, 1), ("Sigmoid", "Tanh", "Tanh"))
    return partial(_lstm, form)


def gru(node: Node) -> Function:
    """GRU whose reset gate acts after the product with the state."""
    form = Form.of(node, (1, 0, 2), ("Sigmoid", "Tanh"))
    if node.integer("linear_before_reset"):
        return partial(_single, torch.gru, form)
    return partial(_early, form)


def rnn(node: Node) -> Function:
    """RNN with tanh or relu."""
    rectified = set(node.texts("activations")) == {"Relu"}
    form = Form.of(node, (0,), ("Relu",) if rectified else ("Tanh",))
    return partial(_single, torch.rnn_relu if rectified else torch.rnn_tanh, form)


def _lstm(
    form: Form,
    x: Tensor,
    weight: Tensor,
    recurrence: Tensor,
    bias: Tensor | None = None,
    _lengths: None = None,
    state: Tensor | None = None,
    cell: Tensor | None = None,
) -> tuple[Tensor, ...]:
    start = _start(form, x, recurrence, state)
    memory = _start(form, x, recurrence, cell)
    return _run(form, torch.lstm, (start, memory), x, weight, recurrence, bias)


def _single(
    kernel: Callable[..., Any],
    form: Form,
    x: Tensor,
    weight: Tensor,
    recurrence: Tensor,
    bias: Tensor | None = None,
    _lengths: None = None,
    state: Tensor | None = None,
) -> tuple[Tensor, ...]:
    start = _start(form, x, recurrence, state)
    return _run(form, kernel, start, x, weight, recurrence, bias)


def _start(form: Form, x: Tensor, recurrence: Tensor, state: Tensor | None) -> Tensor:
    """Return the first state, ``[directions, batch, width]``; zeros when it is not given."""
    if state is not None:
        return state.transpose(0, 1).contiguous() if form.batch_first else state
    batch = x.shape[0 if form.batch_first else 1]
    return x.new_zeros(recurrence.shape[0], batch, recurrence.shape[2])


def _run(
    form: Form,
    kernel: Callable[..., Any],
    start: Any,
    x: Tensor,
    weight: Tensor,
    recurrence: Tensor,
    bias: Tensor | None,
) -> tuple[Tensor, ...]:
    """Run a kernel over ``[time, batch, width]`` and put its results into ONNX's axes.

    Returns:
        All states ``[time, directions, batch, width]``, the last ones ``[directions, batch,
        width]``, and for LSTM the last cells; with the batch first if the layout says so.
    """
    x = x.transpose(0, 1) if form.batch_first else x
    x = x.flip(0) if form.direction == "reverse" else x
    flat = _flat(form, weight, recurrence, bias)
    both = form.direction == "bidirectional"
    trains = torch.is_grad_enabled()
    y, *last = kernel(x, start, flat, bias is not None, 1, 0.0, trains, both, False)
    y = y.flip(0) if form.direction == "reverse" else y
    y = y.reshape(*y.shape[:2], recurrence.shape[0], -1)
    if form.batch_first:
        return (y.transpose(0, 1), *(each.transpose(0, 1) for each in last))
    return (y.transpose(1, 2), *last)


def _flat(form: Form, weight: Tensor, recurrence: Tensor, bias: Tensor | None) -> list[Tensor]:
    """Return torch's list of weights: for each direction input, state, and the two biases."""
    gates = len(form.order)
    flat = []
    for index in range(weight.shape[0]):
        given = [weight[index], recurrence[index]]
        given += [] if bias is None else list(bias[index].chunk(2))
        for each in given:
            pieces = each.chunk(gates)
            flat.append(torch.cat([pieces[gate] for gate in form.order]) if gates > 1 else each)
    return flat


def _early(
    form: Form,
    x: Tensor,
    weight: Tensor,
    recurrence: Tensor,
    bias: Tensor | None = None,
    _lengths: None = None,
    state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """GRU whose reset gate acts on the state before the product, which torch does not have."""
    x = x.transpose(0, 1) if form.batch_first else x
    start = _start(form, x.transpose(0, 1) if form.batch_first else x, recurrence, state)
    if bias is None:
        bias = x.new_zeros(weight.shape[0], 2 * weight.shape[1])
    rows, last = [], []
    for index in range(weight.shape[0]):
        backward = form.direction == "reverse" or index == 1
        states = _early_states(
            x.flip(0) if backward else x,
            start[index],
            weight[index],
            recurrence[index],
            bias[index],
        )
        last.append(states[-1])
        rows.append(torch.stack(states[::-1] if backward else states))
    y, final = torch.stack(rows, 1), torch.stack(last)
    return (y.permute(2, 0, 1, 3), final.transpose(0, 1)) if form.batch_first else (y, final)


def _early_states(
    x: Tensor, state: Tensor, weight: Tensor, recurrence: Tensor, bias: Tensor
) -> list[Tensor]:
    width = state.shape[-1]
    given, own = bias.chunk(2)
    inputs = torch.nn.functional.linear(x, weight, given + own)
    states = []
    for row in inputs:
        gates = torch.sigmoid(row[:, : 2 * width] + state @ recurrence[: 2 * width].t())
        update, reset = gates.chunk(2, -1)
        fresh = torch.tanh(row[:, 2 * width :] + (reset * state) @ recurrence[2 * width :].t())
        state = (1 - update) * fresh + update * state
        states.append(state)
    return states
