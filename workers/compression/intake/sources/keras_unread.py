"""Keras's own layers that are not read, with what can be done instead.

Any other name that is not on the list of what is read stands for code of the user's own.
"""

_WORDS = "turns text and categories into numbers, which Keras does in TensorFlow alone"
_SOUND = "computes spectrograms, for which torch's exporter has no operator"
_PICTURES = "changes pictures by what is in them, for which torch's exporter has no operators"

_AHEAD = {
    **dict.fromkeys(
        ("TextVectorization", "StringLookup", "IntegerLookup", "Hashing", "HashedCrossing"), _WORDS
    ),
    **dict.fromkeys(("STFTSpectrogram", "MelSpectrogram"), _SOUND),
    **dict.fromkeys(
        ("AutoContrast", "Equalization", "Solarization",
         "ContrastLimitedAdaptiveHistogramEqualization"), _PICTURES
    ),
    "Pipeline": "holds steps that prepare data",
    "MaxNumBoundingBoxes": "prepares bounding boxes for a training",
}  # fmt: skip
"""Layers that prepare a model's data, and so can be left out of it, with what they do."""
_WITHIN = {
    "AdaptiveAveragePooling3D": "AveragePooling3D",
    "AdaptiveMaxPooling3D": "MaxPooling3D",
}
"""Layers that the exporter has no operator for, with one that it has."""


def reason(kind: str, name: object) -> str | None:
    """Return why a layer of Keras is not read, and what to do; None if the kind is not Keras's.

    Args:
        kind: the class of the layer.
        name: of the layer, in its model.
    """
    layer = f"'{kind}' (layer '{name!s:.80}')" if isinstance(name, str) else f"'{kind}'"
    if kind in _AHEAD:
        place = name if isinstance(name, str) else "its name"
        return (
            f"{layer} {_AHEAD[kind]}. Run it where your data is prepared, save the model behind it,"
            f" keras.Model(model.get_layer('{place!s:.80}').output,"
            " model.outputs).save('model.keras'), and upload that."
        )
    if kind in _WITHIN:
        return (
            f"{layer} has no operator in torch's exporter to ONNX. Take {_WITHIN[kind]} with a"
            " pool_size in its place, which has no weights either, and save the model again."
        )
    return None
