"""BERT (Devlin et al. 2018) that ends in a sentence's embedding (Reimers & Gurevych 2019).

The names of modules are those of Hugging Face's checkpoints, so that their weights load as they
are.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own convention)


class SelfAttention(nn.Module):
    """Attention of ``heads`` heads over ``[batch, tokens, width]``."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self._heads = heads

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (
            layer(x).unflatten(-1, (self._heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return attended.transpose(1, 2).flatten(-2)


class Added(nn.Module):
    """A product, added to what came before it, and normalised."""

    def __init__(self, inner: int, width: int, epsilon: float) -> None:
        super().__init__()
        self.dense = nn.Linear(inner, width)
        self.LayerNorm = nn.LayerNorm(width, eps=epsilon)

    def forward(self, x: Tensor, before: Tensor) -> Tensor:
        normalised: Tensor = self.LayerNorm(self.dense(x) + before)
        return normalised


class Block(nn.Module):
    """Attention and two products, each added to what came before."""

    def __init__(self, width: int, inner: int, heads: int, epsilon: float) -> None:
        super().__init__()
        self.attention = nn.ModuleDict(
            {"self": SelfAttention(width, heads), "output": Added(width, width, epsilon)}
        )
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, inner)})
        self.output = Added(inner, width, epsilon)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.attention["output"](self.attention["self"](x, mask), x)
        y: Tensor = self.output(F.gelu(self.intermediate["dense"](x)), x)
        return y


class Embeddings(nn.Module):
    """What a token is and where it stands; every token belongs to the first of two sentences."""

    def __init__(self, tokens: int, positions: int, width: int, epsilon: float) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(tokens, width)
        self.position_embeddings = nn.Embedding(positions, width)
        self.token_type_embeddings = nn.Embedding(2, width)
        self.LayerNorm = nn.LayerNorm(width, eps=epsilon)

    def forward(self, ids: Tensor) -> Tensor:
        places = self.position_embeddings.weight[: ids.shape[1]]
        x: Tensor = self.LayerNorm(
            self.word_embeddings(ids) + self.token_type_embeddings.weight[0] + places
        )
        return x


class SentenceBert(nn.Module):
    """Token ids and their mask, ``[batch, tokens]``, to embeddings of length 1, ``[batch, width]``.

    Args:
        tokens: of the vocabulary.
        positions: the longest sentence.
        width: of a token's vector.
        inner: of the products between.
        layers: blocks.
        heads: of the attention.
        epsilon: of normalisation.
    """

    def __init__(
        self,
        tokens: int,
        positions: int,
        width: int,
        inner: int,
        layers: int,
        heads: int,
        epsilon: float,
    ) -> None:
        super().__init__()
        self.embeddings = Embeddings(tokens, positions, width, epsilon)
        blocks = [Block(width, inner, heads, epsilon) for _ in range(layers)]
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(blocks)})

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the normalised mean of the tokens that the mask marks."""
        kept = attention_mask[..., None].to(torch.float32)
        hidden = (1 - kept.mT[:, None]) * -10_000.0
        x = self.embeddings(input_ids)
        for block in cast(nn.ModuleList, self.encoder["layer"]):
            x = block(x, hidden)
        return F.normalize((x * kept).sum(1) / kept.sum(1), dim=1)
