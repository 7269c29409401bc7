"""Checks a Keras model's configuration against an allow-list, and translates it to Keras 3.

A configuration names classes, and Keras imports and calls them; its safe mode is no security
boundary. So only names of this list are passed to Keras, and no argument may hold code.
"""

from typing import Any

from app.domain.problems import InvalidModel
from workers.compression.intake.sources import keras_unread

_LAYERS = """
InputLayer Dense EinsumDense Embedding ReversibleEmbedding Identity Masking Activation
Conv1D Conv2D Conv3D Conv1DTranspose Conv2DTranspose Conv3DTranspose
Convolution1D Convolution2D Convolution3D Convolution2DTranspose
DepthwiseConv1D DepthwiseConv2D SeparableConv1D SeparableConv2D
AveragePooling1D AveragePooling2D AveragePooling3D MaxPooling1D MaxPooling2D MaxPooling3D
GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D
GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D AdaptiveAveragePooling1D
AdaptiveAveragePooling2D AdaptiveMaxPooling1D AdaptiveMaxPooling2D
BatchNormalization LayerNormalization GroupNormalization RMSNormalization UnitNormalization
SpectralNormalization
Dropout SpatialDropout1D SpatialDropout2D SpatialDropout3D AlphaDropout GaussianDropout
GaussianNoise ActivityRegularization
ReLU LeakyReLU PReLU ELU Softmax
LSTM GRU SimpleRNN RNN LSTMCell GRUCell SimpleRNNCell StackedRNNCells Bidirectional
TimeDistributed ConvLSTM1D ConvLSTM2D ConvLSTM3D
Attention AdditiveAttention MultiHeadAttention GroupQueryAttention GroupedQueryAttention
Add Subtract Multiply Average Maximum Minimum Concatenate Dot
Flatten Reshape Permute RepeatVector Cropping1D Cropping2D Cropping3D UpSampling1D UpSampling2D
UpSampling3D ZeroPadding1D ZeroPadding2D ZeroPadding3D
Rescaling Normalization Resizing CenterCrop CategoryEncoding Discretization
RandomFlip RandomRotation RandomZoom RandomTranslation RandomContrast RandomBrightness RandomCrop
Functional Sequential Model
"""
_AUGMENTATIONS = """
RandomColorDegeneration RandomColorJitter RandomElasticTransform RandomErasing RandomGaussianBlur
RandomGrayscale RandomHue RandomInvert RandomPerspective RandomPosterization RandomSaturation
RandomSharpness RandomShear AugMix CutMix MixUp RandAugment
"""
_VALUES = """
Zeros Ones Constant Identity IdentityInitializer RandomNormal RandomUniform TruncatedNormal
VarianceScaling GlorotNormal GlorotUniform HeNormal HeUniform LecunNormal LecunUniform Orthogonal
OrthogonalInitializer STFT L1 L2 L1L2 OrthogonalRegularizer MaxNorm NonNeg UnitNorm MinMaxNorm
DTypePolicy Policy __keras_tensor__ __tensor__ __numpy__ __tuple__ __ellipsis__ __slice__ __bytes__
"""
_ACTIVATIONS = """
relu relu6 leaky_relu elu selu celu gelu silu swish softmax softplus softsign sigmoid hard_sigmoid
hard_silu hard_swish hard_tanh hard_shrink soft_shrink tanh tanh_shrink threshold log_sigmoid
log_softmax exponential linear mish glu sparse_plus sparse_sigmoid sparsemax squareplus
"""
AUGMENTATIONS = frozenset(_AUGMENTATIONS.split())
"""Layers that give at inference what they get, of which not all can be exported."""
LAYERS = frozenset(_LAYERS.split()) | AUGMENTATIONS
NAMES = LAYERS | frozenset(_VALUES.split())
ACTIVATIONS = frozenset(_ACTIVATIONS.split())

_MODULES = (
    "keras",
    "keras.layers",
    "keras.models",
    "keras.initializers",
    "keras.regularizers",
    "keras.constraints",
    "keras.dtype_policies",
    "keras.mixed_precision",
    "keras.src.models.functional",
    "keras.src.models.sequential",
    "keras.src.models.model",
    "builtins",
)
OPERATIONS: dict[str, frozenset[str] | None] = {
    "keras.src.ops.numpy": None,
    "keras.src.ops.nn": None,
    "keras.src.ops.math": None,
    "keras.src.ops.image": None,
    "keras.src.ops.core": frozenset(
        ["Cast", "SaturateCast", "Scatter", "ScatterUpdate", "Slice", "SliceUpdate", "Unstack"]
    ),
    "keras.ops": None,
}
"""The modules of operations that may be called on Keras tensors, and which; None for all."""

_Legacy = dict[str, tuple[object, ...]]
_NO_GROUPS: _Legacy = {"groups": (1,)}
_RECURRENT: _Legacy = {
    "time_major": (False,),
    "implementation": (0, 1, 2),
    "consume_less": ("cpu", "gpu", "mem"),
}
_LEGACY: dict[str, _Legacy] = {
    "DepthwiseConv1D": _NO_GROUPS,
    "DepthwiseConv2D": _NO_GROUPS,
    "SeparableConv1D": _NO_GROUPS,
    "SeparableConv2D": _NO_GROUPS,
    "Conv1DTranspose": _NO_GROUPS,
    "Conv2DTranspose": _NO_GROUPS,
    "Conv3DTranspose": _NO_GROUPS,
    "LSTM": _RECURRENT,
    "GRU": _RECURRENT,
    "SimpleRNN": _RECURRENT,
    "RNN": _RECURRENT,
    "ConvLSTM2D": _RECURRENT,
    "BatchNormalization": {
        "renorm": (False,),
        "virtual_batch_size": (None,),
        "fused": (None, True, False),
        "mode": (0,),
    },
}
"""Arguments that Keras 3 does not know any more, with the values that mean nothing to it."""

_ADVICE = (
    "Export the model where that code is: planish.from_keras(model) of the Python client, or"
    " model.export('model.onnx', format='onnx'), and upload the .onnx file."
)


def checked(config: Any, *, legacy: bool) -> Any:
    """Return a configuration for Keras 3 that holds only stock layers.

    Args:
        config: the configuration of the file.
        legacy: whether Keras 1 or 2 wrote it, in HDF5.

    Raises:
        InvalidModel: the configuration names a class or a function that is not on the list.
    """
    try:
        return _value(config, legacy)
    except RecursionError:
        raise InvalidModel("The model's configuration is nested too deeply.") from None


def _value(value: Any, legacy: bool) -> Any:
    if isinstance(value, list):
        return [_value(item, legacy) for item in value]
    if not isinstance(value, dict):
        return value
    if "class_name" in value:
        return _object(value, legacy)
    return {name: _argument(name, item, legacy) for name, item in value.items()}


def _argument(name: str, value: Any, legacy: bool) -> Any:
    """Check one argument; some arguments name functions by strings."""
    if name.endswith("activation") and isinstance(value, str) and value not in ACTIVATIONS:
        raise InvalidModel(f"The activation '{value[:80]}' is not one of Keras's own. {_ADVICE}")
    return _value(value, legacy)


def _is_of_keras(module: str | None) -> bool:
    return module is None or module.partition(".")[0] == "keras"


def _object(value: dict[str, Any], legacy: bool) -> dict[str, Any]:
    name, module, config = str(value["class_name"]), value.get("module"), value.get("config")
    module = None if module is None else str(module)
    label = config.get("name") if isinstance(config, dict) else None
    where = f" (layer '{str(label)[:80]}')" if isinstance(label, str) else ""
    if name == "function":
        if module not in {"builtins", "keras.activations"} or str(config) not in ACTIVATIONS:
            raise InvalidModel(
                f"The function '{config!s:.80}'{where} is not one of Keras's own. {_ADVICE}"
            )
        return dict(value)
    if not _is_operation(module, name) and (name not in NAMES or module not in {None, *_MODULES}):
        raise InvalidModel(
            (keras_unread.reason(name, label) if _is_of_keras(module) else None)
            or f"'{name!s:.80}'{where} is not a stock layer of Keras: its code is not run here."
            f" {_ADVICE}"
        )
    registered = value.get("registered_name")
    if registered is not None and registered != name:
        raise InvalidModel(
            f"'{registered!s:.80}'{where} is a class of your own: its code is not run here."
            f" {_ADVICE}"
        )
    value = {**value, "class_name": name}
    checked_object = {key: _argument(key, item, legacy) for key, item in value.items()}
    if legacy and isinstance(config, dict):
        checked_object["config"] = _modern(name, checked_object["config"])
    return checked_object


def _is_operation(module: str | None, name: str) -> bool:
    """Return whether a name is one of an operation on tensors, which runs no code of the file."""
    if module not in OPERATIONS or not name.isidentifier():
        return False
    names = OPERATIONS[module]
    return names is None or name in names


def _modern(name: str, config: dict[str, Any]) -> dict[str, Any]:
    """Drop arguments that Keras 3 does not have and whose values have no effect."""
    removable = _LEGACY.get(name, {})
    remaining = {
        key: value
        for key, value in config.items()
        if key not in removable
        or not any(value is no_effect or value == no_effect for no_effect in removable[key])
    }
    if name == "GRU":
        remaining.setdefault("reset_after", False)
    return remaining
