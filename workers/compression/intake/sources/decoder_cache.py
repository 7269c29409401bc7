"""Decoders with a cache: the keys and values of earlier tokens are inputs and outputs.

The names are those of optimum's exports: ``past_key_values.0.key`` goes in and ``present.0.key``
comes out, ``[batch, heads, length, width]``. With a cache of no tokens, the graph reads a whole
text, so that one graph serves for the first token and for the others.
"""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from app.domain.models import TensorSpec
from app.domain.problems import InvalidModel
from workers.compression import faults
from workers.compression.intake.sources.program import BATCH

LENGTH, PAST = "length", "past_length"
_PARTS = ("key", "value")
_WITHOUT = "Upload it again without '?cache=true': the graph then reads whole texts."
_TOLERANCE = 1e-4


def inputs_of(model: Any) -> tuple[list[TensorSpec], dict[str, int]]:
    """Return the inputs of a decoder with its cache, and exclusive upper bounds of integers.

    Raises:
        InvalidModel: the network has no cache of keys and values.
    """
    parameters = inspect.signature(model.forward).parameters
    if "cache" not in parameters or "use_cache" not in parameters:
        raise InvalidModel(f"{type(model).__name__} is no decoder with a cache. {_WITHOUT}")
    vocabulary = int(model.config.vocab_size)
    specs = [
        TensorSpec(name="input_ids", dtype="int64", shape=[BATCH, LENGTH]),
        TensorSpec(name="attention_mask", dtype="int64", shape=[BATCH, f"{PAST} + {LENGTH}"]),
    ]
    bounds = {"input_ids": vocabulary, "attention_mask": 2}
    if "position_ids" in parameters:
        specs.append(TensorSpec(name="position_ids", dtype="int64", shape=[BATCH, LENGTH]))
        bounds["position_ids"] = int(getattr(model.config, "max_position_embeddings", 0) or 0)
    for layer, tensors in enumerate(_example(model)):
        for part, tensor in zip(_PARTS, tensors, strict=True):
            _, heads, _, width = tensor.shape
            name = f"past_key_values.{layer}.{part}"
            shape: list[int | str] = [BATCH, heads, PAST, width]
            specs.append(TensorSpec(name=name, dtype="float32", shape=shape))
    return specs, bounds


def _example(model: Any) -> list[tuple[Tensor, Tensor]]:
    """Return keys and values of each layer for two tokens; see ``inputs_of``."""
    try:
        with torch.no_grad():
            answers = model(torch.zeros(1, 2, dtype=torch.int64), use_cache=True, return_dict=True)
        tensors = [(layer.keys, layer.values) for layer in answers.cache.layers]
    except Exception as error:
        if faults.is_limit(error):
            raise
        faults.log(error)
        tensors = []
    if not tensors or any(tensor.ndim != 4 for layer in tensors for tensor in layer):
        raise InvalidModel(
            f"The cache of {type(model).__name__} holds something else than keys and values."
            f" {_WITHOUT}"
        )
    return tensors


class WithCache(nn.Module):
    """A decoder that takes ids, mask, positions and its cache by position."""

    def __init__(self, model: Any, names: list[str]) -> None:
        super().__init__()
        self.model = model
        self._names = [name for name in names if not name.startswith("past_key_values")]

    def forward(self, *tensors: Tensor) -> dict[str, Tensor]:
        """Return the logits and the cache with the new tokens at its end."""
        from transformers import DynamicCache

        count = len(self._names)
        past = zip(tensors[count::2], tensors[count + 1 :: 2], strict=True)
        answers: Mapping[str, Any] = self.model(
            **dict(zip(self._names, tensors[:count], strict=True)),
            cache=DynamicCache(list(past)),
            use_cache=True,
            return_dict=True,
        )
        outputs = {name: value for name, value in answers.items() if isinstance(value, Tensor)}
        for index, layer in enumerate(answers["cache"].layers):
            outputs[f"present.{index}.key"] = layer.keys
            outputs[f"present.{index}.value"] = layer.values
        return outputs


def require_same_answers(module: WithCache, specs: list[TensorSpec], vocabulary: int) -> None:
    """Compare a text that is read in two parts, through the cache, with the text as a whole.

    Raises:
        InvalidModel: the answers differ.
    """
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, vocabulary, (2, 7), generator=generator)
    empty = [
        torch.zeros([2, *(0 if size == PAST else int(size) for size in spec.shape[1:])])
        for spec in specs
        if spec.name.startswith("past_key_values")
    ]
    with torch.no_grad():
        whole = module.model(ids, use_cache=False, return_dict=True)[0]
        first = module(*_read(specs, ids, 0, 4), *empty)
        past = [tensor for name, tensor in first.items() if name.startswith("present")]
        second = module(*_read(specs, ids, 4, 7), *past)
    names = [name for name in first if not name.startswith("present")]
    parts = torch.cat([first[names[0]], second[names[0]]], 1)
    error = float((parts - whole).abs().max()) / max(1.0, float(whole.abs().max()))
    if not error <= _TOLERANCE:
        raise InvalidModel(
            f"With its cache, {type(module.model).__name__} answers otherwise than without (by"
            f" {error:.1e}). {_WITHOUT}"
        )


def _read(specs: list[TensorSpec], ids: Tensor, start: int, end: int) -> list[Tensor]:
    """Return ids, mask and positions of the tokens from ``start`` to ``end``."""
    inputs = {
        "input_ids": ids[:, start:end],
        "attention_mask": torch.ones(len(ids), end, dtype=torch.int64),
        "position_ids": torch.arange(start, end).expand(len(ids), -1),
    }
    return [inputs[spec.name] for spec in specs if spec.name in inputs]
