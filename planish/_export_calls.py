"""What is wrong with a call that is to export a model, said before a framework stumbles over it."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from planish.errors import ExportFailed

_AS_IT_IS = "A file is uploaded as it is: client.models.upload(path)."


def require_torch(torch: Any, module: Any, tensors: Sequence[Any]) -> None:
    """Refuse what is no module, and examples that are no tensors."""
    kind = torch.nn.Module
    if isinstance(module, type) and issubclass(module, kind):
        name = module.__name__
        raise ExportFailed(f"{name} is a class: pass an instance of it, such as {name}(…).")
    if not isinstance(module, kind):
        raise ExportFailed(f"This is {_a(module)}, and no torch.nn.Module. {_AS_IT_IS}")
    if isinstance(module, torch.jit.ScriptModule):
        raise ExportFailed(
            "This is a program of TorchScript, which the service reads: write it with"
            " torch.jit.save(module, 'model.pt'), and call client.models.upload('model.pt',"
            " inputs=[{'shape': ['batch', …]}]) with the shapes of its inputs."
        )
    for tensor in tensors:
        if not isinstance(tensor, torch.Tensor):
            raise ExportFailed(
                f"The example has {_a(tensor)} where a tensor belongs: pass a tensor, or a tuple"
                " with one for each input."
            )


def require_axes(dynamic: Mapping[str, Mapping[int, str]], examples: Mapping[str, Any]) -> None:
    """Refuse dynamic axes of inputs that there are not, or that have fewer."""
    for name, axes in dynamic.items():
        if name not in examples:
            raise ExportFailed(
                f"'dynamic' names the input '{name}', and the example is for {_listed(examples)}."
            )
        count = examples[name].dim()
        for axis in axes:
            if not (isinstance(axis, int) and 0 <= axis < count):
                raise ExportFailed(
                    f"'dynamic' names axis {axis!r} of '{name}', whose example has {count} axes:"
                    " they count from 0."
                )


def require_keras(model: Any) -> None:
    """Refuse what is no Keras model, and one without weights."""
    if isinstance(model, type) or not (hasattr(model, "layers") and hasattr(model, "save")):
        raise ExportFailed(f"This is {_a(model)}, and no Keras model. {_AS_IT_IS}")
    if not model.built:
        raise ExportFailed(
            f"The {type(model).__name__} has no weights yet, as it was told no shape: call it once"
            " on an example, or begin it with keras.layers.Input(shape)."
        )


def require_sklearn(pipeline: Any, example: Any) -> None:
    """Refuse what is not fitted, and examples that it does not take."""
    if isinstance(pipeline, type) or not hasattr(pipeline, "fit"):
        raise ExportFailed(f"This is {_a(pipeline)}, and no estimator of scikit-learn.")
    unfitted = import_module("sklearn.exceptions").NotFittedError
    try:
        import_module("sklearn.utils.validation").check_is_fitted(pipeline)
    except unfitted:
        name = type(pipeline).__name__
        raise ExportFailed(f"The {name} is not fitted yet: call its fit() first.") from None
    if not getattr(example, "shape", ()):
        raise ExportFailed(
            f"The example is {_a(example)}: pass some of the samples that it was fitted on, as an"
            " array with a row for each, or as a DataFrame."
        )
    wanted = getattr(pipeline, "n_features_in_", None)
    if wanted is not None and not hasattr(example, "columns") and example.shape[1:] != (wanted,):
        raise ExportFailed(
            f"The example has the shape {list(example.shape)}: its samples need {wanted} columns,"
            " as those that it was fitted on."
        )


def require_tensorflow(path: Path) -> None:
    """Refuse a path where neither a SavedModel is nor a ``.tflite`` file."""
    wanted = "name the directory of a SavedModel, or a .tflite file"
    if not path.exists():
        raise ExportFailed(f"There is no {str(path)!r}: {wanted}.")
    if path.is_dir() and not (path / "saved_model.pb").exists():
        raise ExportFailed(f"There is no saved_model.pb in {str(path)!r}: {wanted}.")
    if path.is_file():
        with path.open("rb") as file:
            if file.read(8)[4:] != b"TFL3":
                other = _AS_IT_IS.replace("A file", "A file of another kind")
                raise ExportFailed(f"{str(path)!r} is no .tflite file: {wanted}. {other}")


def _a(value: Any) -> str:
    """Return what a value is, with its article."""
    if value is None:
        return "None"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def _listed(names: Mapping[str, Any]) -> str:
    return ", ".join(f"'{name}'" for name in names)
