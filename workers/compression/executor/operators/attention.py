"""Attention and rotary positions as single operators (opset 23)."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own convention)

from workers.compression.executor.node import Node, Unsupported
from workers.compression.executor.plan import Function


@dataclass(frozen=True)
class AttentionAttributes:
    """The attributes of an Attention; 0 for a missing one."""

    heads: int
    kv_heads: int
    causal: bool
    scale: float
    cap: float
    scores: int | None
    """The stage of the scores that is the fourth output; None if no node reads that output."""


def attention(node: Node) -> Function:
    """Attention, with grouped queries, a cache, masks and capped scores."""
    windows = (node.integer("left_window_size", -1), node.integer("right_window_size", -1))
    if node.has(6) or windows != (-1, -1):
        raise Unsupported("Attention over padded keys or a sliding window")
    attributes = AttentionAttributes(
        node.integer("q_num_heads"),
        node.integer("kv_num_heads"),
        bool(node.integer("is_causal")),
        node.real("scale"),
        node.real("softcap"),
        node.integer("qk_matmul_output_mode") if node.is_read(3) else None,
    )
    return partial(_attention, attributes)


def _attention(
    attributes: AttentionAttributes,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Compute attention.

    Args:
        attributes: the attributes.
        query: ``[batch, heads, length, width]``, or ``[batch, length, heads · width]``.
        key: the same with its own heads and length.
        value: as ``key``, perhaps of another width.
        mask: booleans, true where a key may be read, or numbers that are added to the scores;
            broadcast to the scores.
        past_key: keys before ``key``, ``[batch, heads, length, width]``.
        past_value: values before ``value``.

    Returns:
        The output in the layout of ``query``, all keys, all values, and the scores if the fourth
        output is read.
    """
    flat = query.ndim == 3
    if flat:
        query = _split_heads(query, attributes.heads)
        key, value = (
            _split_heads(key, attributes.kv_heads),
            _split_heads(value, attributes.kv_heads),
        )
    if past_key is not None and past_value is not None:
        key, value = torch.cat([past_key, key], 2), torch.cat([past_value, value], 2)
    bias = _bias(attributes, query, key, mask, 0 if past_key is None else past_key.shape[2])
    groups = query.shape[1] // key.shape[1]
    keys, values = (
        tensor.repeat_interleave(groups, 1) if groups > 1 else tensor for tensor in (key, value)
    )
    scale = attributes.scale or query.shape[-1] ** -0.5
    scores: tuple[Tensor, ...] = ()
    if attributes.cap or attributes.scores is not None:
        output, selected = _spelled_out(attributes, query, keys, values, bias, scale)
        scores = (selected,)
    else:
        output = F.scaled_dot_product_attention(query, keys, values, bias, scale=scale)
        output = _zero_where_masked(output, bias)
    output = output.transpose(1, 2).flatten(2) if flat else output
    return (output, key, value, *scores)


def _split_heads(x: Tensor, heads: int) -> Tensor:
    return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)


def _bias(
    attributes: AttentionAttributes,
    query: Tensor,
    key: Tensor,
    mask: Tensor | None,
    past_length: int,
) -> Tensor | None:
    """Return the bias of the scores: minus infinity where a query must not read a key."""
    if mask is not None and mask.dtype == torch.bool:
        zeros = torch.zeros(mask.shape, dtype=query.dtype, device=query.device)
        mask = zeros.masked_fill(~mask, -torch.inf)
    length = key.shape[2]
    if mask is not None and mask.shape[-1] < length:
        mask = F.pad(mask, [0, length - mask.shape[-1]], value=-torch.inf)
    if attributes.causal:
        causal = query.new_full((query.shape[2], length), -torch.inf).triu(past_length + 1)
        mask = causal if mask is None else mask + causal
    return mask


def _zero_where_masked(output: Tensor, bias: Tensor | None) -> Tensor:
    """Set the rows of queries whose keys are all masked to zero."""
    if bias is None:
        return output
    all_masked = (bias == -torch.inf).all(-1, keepdim=True)
    return torch.where(all_masked, torch.zeros_like(output), output)


def _spelled_out(
    attributes: AttentionAttributes,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """Compute attention step by step; return the output and the scores that are an output."""
    scores = (query * scale**0.5) @ (key * scale**0.5).transpose(-2, -1)
    capped = attributes.cap * torch.tanh(scores / attributes.cap) if attributes.cap else scores
    masked = capped if bias is None else capped + bias
    weights = _zero_where_masked(torch.softmax(masked, -1), bias)
    kinds = (scores, capped, masked, weights)
    return weights @ value, kinds[attributes.scores or 0]


def rotary_embedding(node: Node) -> Function:
    """RotaryEmbedding: pairs of elements are rotated by an angle that depends on the position."""
    return partial(
        _rotary_embedding,
        node.integer("num_heads"),
        node.integer("rotary_embedding_dim"),
        bool(node.integer("interleaved")),
    )


def _rotary_embedding(
    heads: int,
    width: int,
    interleaved: bool,
    x: Tensor,
    cosines: Tensor,
    sines: Tensor,
    positions: Tensor | None = None,
) -> Tensor:
    flat = x.ndim == 3
    y = x.reshape(*x.shape[:2], heads, -1) if flat else x.transpose(1, 2)
    width = width or y.shape[-1]
    rotated, rest = y[..., :width], y[..., width:]
    if positions is not None:
        cosines, sines = cosines[positions], sines[positions]
    cosines, sines = cosines.unsqueeze(2), sines.unsqueeze(2)
    first, second = (rotated[..., ::2], rotated[..., 1::2]) if interleaved else rotated.chunk(2, -1)
    pair = (cosines * first - sines * second, sines * first + cosines * second)
    rotated = torch.stack(pair, -1).flatten(-2) if interleaved else torch.cat(pair, -1)
    y = torch.cat([rotated, rest], -1)
    return y.flatten(2) if flat else y.transpose(1, 2)
