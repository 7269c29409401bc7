"""Keras's stock layers, each as users write it, by what it reads.

Every network gets layers of its own, so each is made when it is put in.
"""

# ruff: noqa: PLW0108

from collections.abc import Callable
from typing import Any

import keras
from keras import layers as k

Write = Callable[[Any], Any]
"""Puts a layer behind a Keras tensor."""

PICTURES: dict[str, Write] = {
    "Conv2D": lambda x: k.Conv2D(4, 3, strides=2, padding="same", activation="gelu")(x),
    "Conv2D, dilated": lambda x: k.Conv2D(4, 3, dilation_rate=2)(x),
    "Conv2D, in groups": lambda x: k.Conv2D(6, 3, groups=3)(x),
    "Conv2D, channels first": lambda x: k.Conv2D(4, 3, data_format="channels_first")(
        k.Permute((3, 1, 2))(x)
    ),
    "Conv2DTranspose": lambda x: k.Conv2DTranspose(4, 3, strides=2, padding="same")(x),
    "DepthwiseConv2D": lambda x: k.DepthwiseConv2D(3, depth_multiplier=2, strides=2)(x),
    "SeparableConv2D": lambda x: k.SeparableConv2D(4, 3, depth_multiplier=2)(x),
    "AveragePooling2D": lambda x: k.AveragePooling2D(3, 2, padding="same")(x),
    "MaxPooling2D": lambda x: k.MaxPooling2D(3, 2, padding="same")(x),
    "GlobalAveragePooling2D": lambda x: k.GlobalAveragePooling2D(keepdims=True)(x),
    "GlobalMaxPooling2D": lambda x: k.GlobalMaxPooling2D()(x),
    "AdaptiveAveragePooling2D": lambda x: k.AdaptiveAveragePooling2D((4, 5))(x),
    "AdaptiveMaxPooling2D": lambda x: k.AdaptiveMaxPooling2D((4, 5))(x),
    "BatchNormalization": lambda x: k.BatchNormalization()(x),
    "LayerNormalization": lambda x: k.LayerNormalization(axis=(-2, -1))(x),
    "GroupNormalization": lambda x: k.GroupNormalization(1)(x),
    "RMSNormalization": lambda x: k.RMSNormalization()(x),
    "UnitNormalization": lambda x: k.UnitNormalization()(x),
    "SpectralNormalization": lambda x: k.SpectralNormalization(k.Conv2D(4, 3))(x),
    "Dropout": lambda x: k.Dropout(0.5)(x),
    "SpatialDropout2D": lambda x: k.SpatialDropout2D(0.5)(x),
    "AlphaDropout": lambda x: k.AlphaDropout(0.5)(x),
    "GaussianDropout": lambda x: k.GaussianDropout(0.5)(x),
    "GaussianNoise": lambda x: k.GaussianNoise(0.5)(x),
    "ActivityRegularization": lambda x: k.ActivityRegularization(0.1)(x),
    "Conv2D, answers penalised": lambda x: k.Conv2D(4, 3, activity_regularizer="l2")(x),
    "ReLU": lambda x: k.ReLU(6.0, 0.1, 0.2)(x),
    "LeakyReLU": lambda x: k.LeakyReLU(0.2)(x),
    "PReLU": lambda x: k.PReLU(shared_axes=[1, 2])(x),
    "ELU": lambda x: k.ELU(0.5)(x),
    "Softmax": lambda x: k.Softmax()(x),
    "Cropping2D": lambda x: k.Cropping2D(((1, 2), (0, 1)))(x),
    "UpSampling2D": lambda x: k.UpSampling2D((2, 3))(x),
    "UpSampling2D, bilinear": lambda x: k.UpSampling2D(2, interpolation="bilinear")(x),
    "ZeroPadding2D": lambda x: k.ZeroPadding2D(((1, 2), (0, 1)))(x),
    "Rescaling": lambda x: k.Rescaling([0.1, 0.2, 0.3], offset=[1.0, 2.0, 3.0])(x),
    "Normalization": lambda x: k.Normalization(mean=[1.0, 2, 3], variance=[1.0, 4, 2])(x),
    "Resizing": lambda x: k.Resizing(5, 7)(x),
    "Resizing, nearest": lambda x: k.Resizing(16, 20, interpolation="nearest")(x),
    "Resizing, bicubic": lambda x: k.Resizing(5, 7, interpolation="bicubic")(x),
    "Resizing, cropped": lambda x: k.Resizing(5, 7, crop_to_aspect_ratio=True)(x),
    "Resizing, padded": lambda x: k.Resizing(16, 16, pad_to_aspect_ratio=True)(x),
    "CenterCrop": lambda x: k.CenterCrop(4, 5)(x),
    "CenterCrop, larger": lambda x: k.CenterCrop(16, 20)(x),
    "Flatten": lambda x: k.Flatten()(x),
    "Reshape": lambda x: k.Reshape((-1, 3))(x),
    "Permute": lambda x: k.Permute((3, 1, 2))(x),
    "TimeDistributed": lambda x: k.TimeDistributed(k.Conv1D(4, 3))(x),
    "EinsumDense": lambda x: k.EinsumDense("abcd,de->abce", (None, None, 7), bias_axes="e")(x),
    "MultiHeadAttention": lambda x: k.MultiHeadAttention(2, 4, attention_axes=(1, 2))(x, x),
    "RandomFlip": lambda x: k.RandomFlip()(x),
    "RandomRotation": lambda x: k.RandomRotation(0.1)(x),
    "RandomCrop": lambda x: k.RandomCrop(5, 6)(x),
}
SERIES: dict[str, Write] = {
    "Conv1D": lambda x: k.Conv1D(4, 3, padding="causal", dilation_rate=2)(x),
    "Conv1DTranspose": lambda x: k.Conv1DTranspose(4, 3, strides=2)(x),
    "DepthwiseConv1D": lambda x: k.DepthwiseConv1D(3)(x),
    "SeparableConv1D": lambda x: k.SeparableConv1D(4, 3)(x),
    "AveragePooling1D": lambda x: k.AveragePooling1D(2)(x),
    "MaxPooling1D": lambda x: k.MaxPooling1D(2)(x),
    "GlobalAveragePooling1D": lambda x: k.GlobalAveragePooling1D()(x),
    "GlobalMaxPooling1D": lambda x: k.GlobalMaxPooling1D()(x),
    "AdaptiveAveragePooling1D": lambda x: k.AdaptiveAveragePooling1D(3)(x),
    "AdaptiveMaxPooling1D": lambda x: k.AdaptiveMaxPooling1D(3)(x),
    "SpatialDropout1D": lambda x: k.SpatialDropout1D(0.5)(x),
    "Cropping1D": lambda x: k.Cropping1D(1)(x),
    "UpSampling1D": lambda x: k.UpSampling1D(2)(x),
    "ZeroPadding1D": lambda x: k.ZeroPadding1D(1)(x),
    "Dense": lambda x: k.Dense(4, activation="softmax")(x),
    "EinsumDense": lambda x: k.EinsumDense("abc,cd->abd", (None, 7), activation="relu")(x),
    "Activation": lambda x: k.Activation("hard_silu")(x),
    "RepeatVector": lambda x: k.RepeatVector(3)(k.Flatten()(x)),
    "Dot": lambda x: k.Dot(axes=(2, 2))([x, x]),
    "Normalization": lambda x: k.Normalization(mean=[1.0] * 5, variance=[2.0] * 5)(x),
    "Normalization, back": lambda x: k.Normalization(
        mean=[1.0] * 5, variance=[2.0] * 5, invert=True
    )(x),
    "Add": lambda x: k.Add()([x, x]),
    "Subtract": lambda x: k.Subtract()([x, k.ReLU()(x)]),
    "Multiply": lambda x: k.Multiply()([x, x]),
    "Average": lambda x: k.Average()([x, k.ReLU()(x)]),
    "Maximum": lambda x: k.Maximum()([x, -x]),
    "Minimum": lambda x: k.Minimum()([x, -x]),
    "Concatenate": lambda x: k.Concatenate(axis=1)([x, x]),
    "Discretization": lambda x: k.Discretization([-1.0, 0.0, 0.5])(x),
    "scalars": lambda x: _scalars(x),
    "comparisons with scalars": lambda x: _compared(x),
    "operations": lambda x: keras.ops.relu(x) * 2 + keras.ops.mean(x, axis=-1, keepdims=True),
    "a slice": lambda x: x[:, 0],
    "einsum": lambda x: keras.ops.einsum("abc,adc->abd", x, x),
    "split": lambda x: keras.ops.concatenate(keras.ops.split(x, 2, axis=1)[::-1], axis=1),
    "Attention": lambda x: k.Attention()([x, x]),
    "Attention, scaled": lambda x: k.Attention(use_scale=True, score_mode="concat")([x, x]),
    "Attention, causal": lambda x: k.Attention()([x, x], use_causal_mask=True),
    "AdditiveAttention": lambda x: k.AdditiveAttention()([x, x]),
    "MultiHeadAttention": lambda x: k.MultiHeadAttention(2, 4)(x, x),
    "MultiHeadAttention, causal": lambda x: k.MultiHeadAttention(2, 4)(x, x, use_causal_mask=True),
    "MultiHeadAttention, scores": lambda x: k.MultiHeadAttention(2, 4, value_dim=3)(
        x, x, return_attention_scores=True
    )[1],
    "GroupQueryAttention": lambda x: k.GroupQueryAttention(4, 4, 2)(x, x),
}
RECURRENT: dict[str, Write] = {
    "LSTM": lambda x: k.LSTM(4)(x),
    "LSTM, backwards": lambda x: k.LSTM(4, return_sequences=True, go_backwards=True)(x),
    "LSTM, another activation": lambda x: k.LSTM(4, activation="relu")(x),
    "LSTM, unrolled": lambda x: k.LSTM(4, unroll=True)(x),
    "LSTM, no bias": lambda x: k.LSTM(4, use_bias=False)(x),
    "LSTM, dropped out": lambda x: k.LSTM(4, dropout=0.5, recurrent_dropout=0.5)(x),
    "LSTM, states": lambda x: k.Concatenate()(k.LSTM(4, return_state=True)(x)),
    "LSTM, from states": lambda x: _from_states(x),
    "GRU": lambda x: k.GRU(4)(x),
    "GRU, reset before": lambda x: k.GRU(4, reset_after=False)(x),
    "SimpleRNN": lambda x: k.SimpleRNN(4, return_sequences=True)(x),
    "RNN of a cell": lambda x: k.RNN(k.LSTMCell(4))(x),
    "RNN of cells": lambda x: k.RNN([k.LSTMCell(4), k.GRUCell(3), k.SimpleRNNCell(2)])(x),
    "RNN of StackedRNNCells": lambda x: k.RNN(
        k.StackedRNNCells([k.LSTMCell(4), k.LSTMCell(3)]), return_sequences=True
    )(x),
    "Bidirectional": lambda x: k.Bidirectional(k.LSTM(4, return_sequences=True))(x),
    "Bidirectional, added": lambda x: k.Bidirectional(k.GRU(4), merge_mode="sum")(x),
    "Bidirectional, of two kinds": lambda x: k.Bidirectional(
        k.LSTM(4), backward_layer=k.GRU(4, go_backwards=True)
    )(x),
    "TimeDistributed": lambda x: k.TimeDistributed(k.Dense(3))(x),
    "models in models": lambda x: _nested(x),
    "a shared layer": lambda x: _shared(x),
}
CLIPS: dict[str, Write] = {
    "Conv3D": lambda x: k.Conv3D(3, 2)(x),
    "Conv3DTranspose": lambda x: k.Conv3DTranspose(3, 2)(x),
    "AveragePooling3D": lambda x: k.AveragePooling3D(2)(x),
    "MaxPooling3D": lambda x: k.MaxPooling3D(2)(x),
    "GlobalAveragePooling3D": lambda x: k.GlobalAveragePooling3D()(x),
    "GlobalMaxPooling3D": lambda x: k.GlobalMaxPooling3D()(x),
    "SpatialDropout3D": lambda x: k.SpatialDropout3D(0.5)(x),
    "Cropping3D": lambda x: k.Cropping3D(1)(x),
    "UpSampling3D": lambda x: k.UpSampling3D(2)(x),
    "ZeroPadding3D": lambda x: k.ZeroPadding3D(1)(x),
    "TimeDistributed": lambda x: k.TimeDistributed(k.Conv2D(3, 2))(x),
    "TimeDistributed, a model": lambda x: k.TimeDistributed(_small())(x),
}
TOKENS: dict[str, Write] = {
    "Embedding": lambda x: k.Embedding(50, 4)(x),
    "Embedding, masked": lambda x: k.GlobalAveragePooling1D()(_masked(x)),
    "Embedding, masked, attended to": lambda x: k.MultiHeadAttention(2, 4)(_masked(x), _masked(x)),
    "CategoryEncoding": lambda x: k.CategoryEncoding(50, "multi_hot")(x),
    "CategoryEncoding, one": lambda x: k.CategoryEncoding(50, "one_hot")(x),
    "ReversibleEmbedding": lambda x: _there_and_back(x),
    "scalars": lambda x: _scalars(x),
    "comparisons with scalars": lambda x: _compared(x),
}


def _scalars(x: Any) -> Any:
    """Python's operators with integers and floats on either side."""
    ops, positive = keras.ops, keras.ops.abs(x) + 1
    answers = [
        x + 2, 2 - x, x * 2, 2.5 * x, x / 2, 3 / positive, x // 2, x % 3, 7.5 % positive,
        positive**2, positive**0.5, 2 ** (x % 3), ops.maximum(x, 1), ops.minimum(1.5, x),
        ops.where(x > 0, x, 1), ops.where(x > 0, 0.5, x), ops.clip(x, -1, 1),
        ops.true_divide(x, 4), ops.add(x, True), ops.square(x) - 1, ops.round(x * 0.7),
    ]  # fmt: skip
    return ops.stack([ops.cast(each, "float32") for each in answers], -1)


def _compared(x: Any) -> Any:
    ops = keras.ops
    answers = [
        x > 0, x >= 1, x < 0.5, x <= 2, ops.equal(x, 3), x != 3, ops.logical_and(x, 1),
        ops.logical_or(x > 0, False), ops.logical_not(x), ops.isclose(x, 3.0),
    ]  # fmt: skip
    return ops.stack([ops.cast(each, "float32") for each in answers], -1)


def _there_and_back(x: Any) -> Any:
    words = k.ReversibleEmbedding(50, 4)
    return words(words(x), reverse=True)


def _masked(x: Any) -> Any:
    return k.Embedding(50, 4, mask_zero=True)(x)


def _small() -> Any:
    return keras.Sequential([k.Input((4, 4, 2)), k.Conv2D(3, 2), k.GlobalAveragePooling2D()])


def _from_states(x: Any) -> Any:
    _, *states = k.LSTM(4, return_state=True)(x)
    return k.LSTM(4, return_sequences=True)(k.RepeatVector(3)(k.Flatten()(x)), initial_state=states)


def _nested(x: Any) -> Any:
    """Models in models, one of which is asked twice."""
    lines = keras.Sequential([k.Input((6, 5)), k.LSTM(4), k.Dense(3)], name="my lines")
    deep_in, middle_in = k.Input((6, 5)), k.Input((6, 5))
    deep = keras.Model(deep_in, k.Dense(2)(k.Flatten()(deep_in)), name="deep")
    middle = keras.Model(middle_in, deep(k.Dense(5)(middle_in)), name="middle")
    return k.Concatenate()([lines(x), middle(x), lines(k.ReLU()(x))])


def _shared(x: Any) -> Any:
    layer = k.Dense(5, name="one")
    return layer(k.ReLU()(layer(x)))
