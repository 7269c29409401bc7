"""Models in models of Keras 1 and 2: their layers, their weights, and the nodes that read them."""

import re
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from numpy.typing import NDArray

from app.domain.problems import InvalidModel
from workers.compression.intake.sources.keras_files import layer_names

Arrays = list[NDArray[Any]]

MODELS = frozenset({"Sequential", "Model", "Functional"})


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


def renumber_nodes(config: Any) -> None:
    """Count the calls of each Sequential from 0, in place.

    Until Keras 3 the first call was the making of the Sequential itself.
    """
    for model in list(every_layer(config)):
        layers = model["config"].get("layers") if isinstance(model["config"], dict) else None
        if model["class_name"] == "Sequential" or not isinstance(layers, list):
            continue
        inner = {str(each.get("name")) for each in layers
                 if isinstance(each, dict) and each.get("class_name") == "Sequential"}  # fmt: skip
        nodes = [each.get("inbound_nodes") for each in layers if isinstance(each, dict)]
        read = list(_references([nodes, model["config"].get("output_layers")], inner))
        for name in inner:
            own = [each for each in read if each[0] == name]
            if all(each[1] > 0 for each in own):
                for each in own:
                    each[1] -= 1


def _references(value: Any, names: set[str]) -> Iterator[list[Any]]:
    """Yield what says that a layer of these names is read: its name, its call, its output."""
    if not isinstance(value, list):
        return
    if len(value) > 2 and str(value[0]) in names and isinstance(value[1], int):
        yield value
        return
    for item in value:
        yield from _references(item, names)


def stored(groups: Any, config: Any) -> Iterator[tuple[dict[str, Any], Any]]:
    """Yield the layers of a model that have a group of weights in the file, each with its group.

    Keras 1 wrote no name for a Sequential in its configuration: such ones have the groups that no
    other layer has, in order.
    """
    layers = config["config"].get("layers", []) if isinstance(config.get("config"), dict) else []
    layers = [layer for layer in layers if isinstance(layer.get("config"), dict)]
    named = {str(layer["config"].get("name")) for layer in layers}
    others = [name for name in layer_names(groups) if name not in named]
    for layer in layers:
        name = str(layer["config"].get("name"))
        if name not in groups and layer["class_name"] in MODELS and others:
            name = others.pop(0)
        if name in groups:
            yield layer, groups[name]


def by_layer(
    layer: dict[str, Any], names: list[str], arrays: Arrays
) -> Iterator[tuple[dict[str, Any], Arrays]]:
    """Yield the arrays of a layer; those of a model in a model by the layers in it.

    A model's arrays are those that are trained, then the others, so that a layer may come twice.
    Their names begin with their layer's.

    Raises:
        InvalidModel: an array's name is not of any layer.
    """
    if layer["class_name"] not in MODELS:
        yield layer, arrays
        return
    inner = {str(each["config"]["name"]): each for each in every_layer(layer["config"]["layers"])
             if each["class_name"] not in MODELS and "name" in each["config"]}  # fmt: skip

    def owner(pair: tuple[str, NDArray[Any]]) -> tuple[str, str]:
        side = re.match(r"(forward_|backward_)?", pair[0])
        direction = side[0] if side else ""
        for name in sorted(inner, key=len, reverse=True):
            if re.match(f"({direction})?{re.escape(name)}[_/]", pair[0]):
                return direction, name
        raise InvalidModel(
            f"The weight '{pair[0]:.80}' in the model '{layer['config'].get('name')!s:.80}' belongs"
            " to none of its layers. Open the file with the Keras that wrote it, build one model"
            " without others in it, and upload that."
        )

    for (_, name), pairs in groupby(zip(names, arrays, strict=True), owner):
        yield inner[name], [array for _, array in pairs]
