"""Models in models of Keras 1 and 2: their layers, their weights, and the nodes that read them."""

from collections import defaultdict
from collections.abc import Container, Iterator
from itertools import groupby
from typing import Any

from numpy.typing import NDArray

from app.domain.problems import InvalidModel
from workers.compression.intake.sources.keras_files import layer_names

Arrays = list[NDArray[Any]]

MODELS = frozenset({"Sequential", "Model", "Functional"})
_FUNCTIONAL = "keras.src.models.functional"
_DIRECTIONS = ("", "forward_", "backward_")
"""What stands before the names of the two layers that a Bidirectional makes of one."""


def every_layer(config: Any) -> Iterator[dict[str, Any]]:
    """Yield every layer of a configuration, outer ones first."""
    pending = [config]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            if "class_name" in item and isinstance(item.get("config"), dict | list):
                yield item
            pending += item.values()
        elif isinstance(item, list):
            pending += item


def layers_in(model: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the layers of a model; the configuration of a Sequential may be a list of them."""
    config = model.get("config")
    layers = config.get("layers") if isinstance(config, dict) else config
    return [each for each in layers if isinstance(each, dict)] if isinstance(layers, list) else []


def name_sequentials(config: Any, groups: Any) -> None:
    """Name each Sequential in a Sequential as its group of weights is named, in place.

    Keras 1, and Keras 2 at first, wrote such a one as a list of layers, without its name: the
    groups that no other layer has are theirs, in order.

    Args:
        config: a model as its file describes it.
        groups: the groups of weights in the file.
    """
    layers = layers_in(config)
    named = {str(_name(each)) for each in layers}
    free = [name for name in layer_names(groups) if name not in named]
    nameless = [each for each in layers
                if each.get("class_name") == "Sequential" and _name(each) is None]  # fmt: skip
    for layer, name in zip(nameless, free, strict=False):
        layer["name"] = name


def _name(layer: dict[str, Any]) -> Any:
    arguments = layer.get("config")
    return (arguments.get("name") if isinstance(arguments, dict) else None) or layer.get("name")


def renumber_nodes(config: Any) -> None:
    """Count the calls of each Sequential from 0, in place.

    Until Keras 3 the first call was the making of the Sequential itself.
    """
    for model in list(every_layer(config)):
        if model["class_name"] == "Sequential" or not isinstance(model["config"], dict):
            continue
        layers = layers_in(model)
        inner = {str(each.get("name")) for each in layers
                 if each.get("class_name") == "Sequential"}  # fmt: skip
        nodes = [each.get("inbound_nodes") for each in layers]
        read = defaultdict[str, list[list[Any]]](list)
        for reference in _references([nodes, model["config"].get("output_layers")], inner):
            read[str(reference[0])].append(reference)
        for references in read.values():
            if all(each[1] > 0 for each in references):
                for each in references:
                    each[1] -= 1


def _references(value: Any, names: set[str]) -> Iterator[list[Any]]:
    """Yield each reference to a layer of these names: a list of its name, call and output."""
    if not isinstance(value, list):
        return
    if len(value) > 2 and str(value[0]) in names and isinstance(value[1], int):
        yield value
        return
    for item in value:
        yield from _references(item, names)


def stored(groups: Any, config: Any) -> Iterator[tuple[dict[str, Any], Any]]:
    """Yield the layers of a model that have a group of weights in the file, each with its group."""
    for layer in layers_in(config):
        arguments = layer.get("config")
        name = str(arguments.get("name")) if isinstance(arguments, dict) else ""
        if name and name in groups:
            yield layer, groups[name]


def by_layer(
    layer: dict[str, Any], names: list[str], arrays: Arrays
) -> Iterator[tuple[dict[str, Any], Arrays]]:
    """Yield the arrays of a layer; those of a model in a model by the layers in it.

    A model's arrays are those that are trained, then the others, so that a layer may come twice.
    Their names begin with their layer's. The model may stand in a wrapper.

    Raises:
        InvalidModel: an array's name is not of any layer.
    """
    if not _holds_model(layer):
        yield layer, arrays
        return
    inner = {str(each["config"]["name"]): each for each in every_layer(layer["config"])
             if "name" in each["config"] and not _holds_model(each)}  # fmt: skip
    owners = [_owner(name, inner) for name in names]
    if None in owners:
        raise InvalidModel(
            f"The weight '{names[owners.index(None)]:.80}' in the model"
            f" '{layer['config'].get('name')!s:.80}' belongs to none of its layers. Open the file"
            " with the Keras that wrote it, build one model without others in it, and upload that."
        )
    for owner, pairs in groupby(zip(owners, arrays, strict=True), lambda pair: pair[0]):
        assert owner is not None
        yield inner[owner[1]], [array for _, array in pairs]


def name_modules(arguments: dict[str, Any]) -> None:
    """Say where Keras 3 has the layers that a wrapper's arguments hold, in place.

    It looks up layers of models by their names alone, but those of wrappers in their modules.
    """
    for name in ("layer", "backward_layer"):
        inner = arguments.get(name)
        if isinstance(inner, dict) and "class_name" in inner:
            kind = str(inner["class_name"])
            module = "keras" if kind in MODELS else "keras.layers"
            inner.setdefault("module", _FUNCTIONAL if kind == "Functional" else module)


def _holds_model(layer: dict[str, Any]) -> bool:
    """Return whether a layer is a model, or wraps one."""
    return any(each["class_name"] in MODELS for each in every_layer(layer))


def _owner(weight: str, layers: Container[str]) -> tuple[str, str] | None:
    """Return the direction and the name of the layer that a weight belongs to, by its name."""
    ends = [place for place, letter in enumerate(weight) if letter in "_/"]
    for end in reversed(ends):
        for direction in _DIRECTIONS:
            name = weight[:end].removeprefix(direction)
            if weight.startswith(direction) and name in layers:
                return direction, name
    return None
