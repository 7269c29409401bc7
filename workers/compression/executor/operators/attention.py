"""Attention and rotary positions as single operators (opset 23)."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own convention)

from workers.compression.executor.node import Node, Unsupported
from workers.compression.executor.plan import Function


@dataclass(frozen=True)
class Form:
    """An Attention's attributes; 0 where one is not given."""

    heads: int
    kv_heads: int
    causal: bool
    scale: float
    cap: float
    scores: int | None
    """Which form of the scores is the fourth output, None if nobody reads it."""


def attention(node: Node) -> Function:
    """Attention, with grouped queries, a cache, masks and capped scores."""
    windows = (node.integer("left_window_size", -1), node.integer("right_window_size", -1))
    if node.has(6) or windows != (-1, -1):
        raise Unsupported("an Attention over padded keys or a sliding window")
    form = Form(
        node.integer("q_num_heads"),
        node.integer("kv_num_heads"),
        bool(node.integer("is_causal")),
        node.real("scale"),
        node.real("softcap"),
        node.integer("qk_matmul_output_mode") if node.wants(3) else None,
    )
    return partial(_attention, form)


def _attention(
    form: Form,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Attend.

    Args:
        form: the attributes.
        query: ``[batch, heads, length, width]``, or ``[batch, length, heads · width]``.
        key: the same with its own heads and length.
        value: as ``key``, perhaps of another width.
        mask: booleans (read this) or numbers to add, broadcast to the scores.
        past_key: keys before ``key``, ``[batch, heads, length, width]``.
        past_value: values before ``value``.

    Returns:
        The answer in the form of ``query``, all keys, all values, and scores if they are wanted.
    """
    flat = query.ndim == 3
    if flat:
        query = _split_heads(query, form.heads)
        key, value = _split_heads(key, form.kv_heads), _split_heads(value, form.kv_heads)
    if past_key is not None and past_value is not None:
        key, value = torch.cat([past_key, key], 2), torch.cat([past_value, value], 2)
    bias = _bias(form, query, key, mask, 0 if past_key is None else past_key.shape[2])
    groups = query.shape[1] // key.shape[1]
    keys, values = (
        each.repeat_interleave(groups, 1) if groups > 1 else each for each in (key, value)
    )
    scale = form.scale or query.shape[-1] ** -0.5
    scores: tuple[Tensor, ...] = ()
    if form.cap or form.scores is not None:
        answer, seen = _spelled_out(form, query, keys, values, bias, scale)
        scores = (seen,)
    else:
        answer = F.scaled_dot_product_attention(query, keys, values, bias, scale=scale)
        answer = _without_blind(answer, bias)
    answer = answer.transpose(1, 2).flatten(2) if flat else answer
    return (answer, key, value, *scores)


def _split_heads(x: Tensor, heads: int) -> Tensor:
    return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)


def _bias(
    form: Form, query: Tensor, key: Tensor, mask: Tensor | None, before: int
) -> Tensor | None:
    """Return what is added to the scores: minus infinity where nothing may be read."""
    if mask is not None and mask.dtype == torch.bool:
        zeros = torch.zeros(mask.shape, dtype=query.dtype, device=query.device)
        mask = zeros.masked_fill(~mask, -torch.inf)
    length = key.shape[2]
    if mask is not None and mask.shape[-1] < length:
        mask = F.pad(mask, [0, length - mask.shape[-1]], value=-torch.inf)
    if form.causal:
        later = query.new_full((query.shape[2], length), -torch.inf).triu(before + 1)
        mask = later if mask is None else mask + later
    return mask


def _without_blind(answer: Tensor, bias: Tensor | None) -> Tensor:
    """Let a query that may read nothing answer zero."""
    if bias is None:
        return answer
    blind = (bias == -torch.inf).all(-1, keepdim=True)
    return torch.where(blind, torch.zeros_like(answer), answer)


def _spelled_out(
    form: Form, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """Return the answer and the scores that the form asks for."""
    scores = (query * scale**0.5) @ (key * scale**0.5).transpose(-2, -1)
    capped = form.cap * torch.tanh(scores / form.cap) if form.cap else scores
    masked = capped if bias is None else capped + bias
    weights = _without_blind(torch.softmax(masked, -1), bias)
    kinds = (scores, capped, masked, weights)
    return weights @ value, kinds[form.scores or 0]


def rotary_embedding(node: Node) -> Function:
    """RotaryEmbedding: pairs of numbers turned by an angle for each position."""
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
    places: Tensor | None = None,
) -> Tensor:
    flat = x.ndim == 3
    y = x.reshape(*x.shape[:2], heads, -1) if flat else x.transpose(1, 2)
    width = width or y.shape[-1]
    turned, rest = y[..., :width], y[..., width:]
    if places is not None:
        cosines, sines = cosines[places], sines[places]
    cosines, sines = cosines.unsqueeze(2), sines.unsqueeze(2)
    first, second = (turned[..., ::2], turned[..., 1::2]) if interleaved else turned.chunk(2, -1)
    pair = (cosines * first - sines * second, sines * first + cosines * second)
    turned = torch.stack(pair, -1).flatten(-2) if interleaved else torch.cat(pair, -1)
    y = torch.cat([turned, rest], -1)
    return y.flatten(2) if flat else y.transpose(1, 2)
