"""Exports what Keras computes moment by moment as one operator, so that any number of moments goes.

In torch, Keras runs a layer once for each moment of its example, which fixes their number and
often the batch. During an export, a recurrent layer is one Scan over its cell, and a layer that is
applied to every moment runs on all of them as one batch.
"""

from typing import Any

import torch
from torch import Tensor
from torch._higher_order_ops.scan import scan_op
from torch.utils import _pytree as pytree


def recurrent(
    layer: Any, sequences: Tensor, initial_state: Any, mask: Tensor | None, training: bool
) -> tuple[Tensor, Tensor, Any]:
    """Run a recurrent layer as Keras does, in one operator.

    Moments that the mask leaves out keep the states; they answer as the one before, or with zeros.

    Args:
        layer: a ``keras.layers.RNN``.
        sequences: ``[batch, moments, ...]``.
        initial_state: the states before the first moment.
        mask: ``[batch, moments]``, whether a moment counts; None if all do.
        training: as the layer was called.

    Returns:
        The last answer, all answers ``[batch, moments, ...]``, and the last states.
    """
    from keras import StatelessScope

    cell = layer.cell
    arguments = {"training": training} if getattr(cell, "_call_has_training_arg", False) else {}
    states, structure = pytree.tree_flatten(list(initial_state))
    variables = list(getattr(cell, "weights", ()))

    def step(inputs: Tensor, flat: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        answer, after = cell(inputs, pytree.tree_unflatten(flat, structure), **arguments)
        return answer, pytree.tree_leaves(after)

    def masked(inputs: Tensor, counts: Tensor, flat: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        *before, last = flat
        answer, after = step(inputs, before)
        otherwise = torch.zeros_like(answer) if layer.zero_output_for_mask else last
        answer = _where(counts, answer, otherwise)
        kept = [_where(counts, new, old) for new, old in zip(after, before, strict=True)]
        return answer, [*kept, answer]

    def body(*tensors: Tensor) -> list[Tensor]:
        flat, inputs, weights = list(tensors[:carried]), tensors[carried:given], tensors[given:]
        with StatelessScope(state_mapping=list(zip(variables, weights, strict=True))):
            if mask is None:
                answer, after = step(inputs[0], flat)
            else:
                answer, after = masked(inputs[0], inputs[1], flat)
        return [*(each.clone() for each in after), answer.clone()]

    moments = [_moments_first(sequences, layer.go_backwards)]
    if mask is not None:
        moments.append(_moments_first(mask.bool(), layer.go_backwards))
        states = [*states, sequences.new_zeros(_answer(layer, sequences.shape))]
    carried, given = len(states), len(states) + len(moments)
    weights = tuple(each.value.clone() for each in variables)  # which the export has no proxies of
    *after, answers = scan_op(body, states, moments, weights)
    answers = answers.transpose(0, 1)
    return answers[:, -1], answers, pytree.tree_unflatten(after[: structure.num_leaves], structure)


def distributed(layer: Any, inputs: Tensor, training: Any, mask: Tensor | None) -> Tensor:
    """Apply the layer of a ``keras.layers.TimeDistributed`` to all moments as one batch."""
    inner, arguments = layer.layer, dict[str, Any]()
    if inner._call_has_mask_arg and mask is not None:  # noqa: SLF001 (as Keras asks it)
        arguments["mask"] = mask.flatten(0, 1)
    if inner._call_has_training_arg:  # noqa: SLF001
        arguments["training"] = training
    answers: Tensor = inner.call(inputs.flatten(0, 1), **arguments)
    return answers.reshape(*inputs.shape[:2], *answers.shape[1:])


def _answer(layer: Any, sequences: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a layer's answer to one moment."""
    whole = layer.compute_output_shape(sequences)
    first = whole[0] if layer.return_state else whole
    return (sequences[0], *first[2 if layer.return_sequences else 1 :])


def _moments_first(tensor: Tensor, backwards: bool) -> Tensor:
    turned = tensor.transpose(0, 1)
    return turned.flip(0) if backwards else turned


def _where(counts: Tensor, answer: Tensor, otherwise: Tensor) -> Tensor:
    return torch.where(counts.reshape(-1, *[1] * (answer.ndim - 1)), answer, otherwise)
