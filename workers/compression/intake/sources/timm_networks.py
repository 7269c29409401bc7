"""Builds networks of the library timm, by name, with uploaded weights."""

import difflib
from collections.abc import Callable, Mapping
from math import isqrt
from typing import Any

import torch
from torch import Tensor

from app.domain.models import ModelHints
from app.domain.problems import InvalidModel
from workers.compression import faults
from workers.compression.intake.sources import weight_names
from workers.compression.intake.sources.hints import FileInput, settle
from workers.compression.intake.sources.program import BATCH, Program

_PREFIX = "timm/"
_COUNTER = "num_batches_tracked"
_IN_ORDER = (
    "The names of the weights are not timm's: they were assigned in their order, as all shapes are"
    " the same. Compare the answers with those of your own program: it may pad otherwise."
)
_LONGEST_NAME = 120
"""Letters; the file of a directory may hold any name."""
_OTHER_TOKENS = 6
"""More than any network of timm has positions besides those of patches."""
_DEFINED: list[Any] = []
"""The library of these operators; they are gone when it is."""


def program(weights: Mapping[str, Tensor], hints: ModelHints) -> Program:
    """Return the named network with these weights, which determine the number of classes.

    Raises:
        InvalidModel: no network is named, the name is unknown, or the weights do not fit.
    """
    if hints.architecture is None:
        raise InvalidModel(
            f"The file holds {len(weights)} weights without their network. Upload it again with"
            " ?architecture=timm/<name>, such as timm/mobilenetv3_small_100; of a network of your"
            " own, upload a TorchScript file, or use planish.from_torch(model, example)."
        )
    define_torchvision_operators()
    import timm

    name = hints.architecture.removeprefix(_PREFIX)[:_LONGEST_NAME]
    config = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    if config is None:
        similar = difflib.get_close_matches(name, timm.list_models(), 3, 0.5)
        instead = (
            f" Near it are {', '.join(_PREFIX + similar_name for similar_name in similar)}."
            if similar
            else ""
        )
        raise InvalidModel(f"timm {timm.__version__} has no network '{name}'.{instead}")
    found = weight_names.find(weights, _layers(config))
    # Where names seem to hold the network and other values, all may be one network, in order.
    whole = {stored: stored for stored in weights} if found.notes else found.names
    renamed = _renamed(timm, name, config, {own: weights[at] for own, at in whole.items()})
    names, notes = found.names, found.notes
    if renamed:
        order = [stored for own, stored in whole.items() if not own.endswith(_COUNTER)]
        names, notes = dict(zip(renamed, order, strict=True)), [_IN_ORDER]
    weights = {own: weights[stored] for own, stored in names.items()}
    classes = _classes(config, weights)
    module = _filled(timm, name, config, weights, classes)
    size = _image_size(config, weights) or config.input_size[1:]
    usual = [BATCH, _channels(config, weights), *size]
    return Program(
        module=module,
        weights={names.get(own, own): tensor for own, tensor in module.state_dict().items()},
        inputs=settle([FileInput("image", "float32", usual=usual)], hints.inputs),
        outputs=["logits" if classes else "features"],
        source="timm",
        version=timm.__version__,
        warnings=notes,
    )


def define_torchvision_operators() -> None:
    """Make torchvision importable with a torch that its operators were not built for.

    timm imports torchvision, but does not use these two operators.
    """
    if _DEFINED or hasattr(torch.ops.torchvision, "nms"):
        return
    make: Callable[..., Any] = torch.library.Library
    library = make("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _DEFINED.append(library)


def _layers(config: Any) -> list[str]:
    """Return timm's names of the first convolutions, else of the classifiers."""
    named = config.first_conv or config.classifier or ()
    return [named] if isinstance(named, str) else list(named)


def _classes(config: Any, weights: Mapping[str, Tensor]) -> int:
    """Return how many classes the weights have; 0 where they have no classifier."""
    named = config.classifier or ()
    for name in [named] if isinstance(named, str) else named:
        for kind in ("weight", "bias"):
            if (weight := weights.get(f"{name}.{kind}")) is not None:
                return int(weight.shape[0])
    return 0


def _channels(config: Any, weights: Mapping[str, Tensor]) -> int:
    """Return how many channels the first convolution reads."""
    named = config.first_conv or ()
    name = named if isinstance(named, str) else next(iter(named), "")
    weight = weights.get(f"{name}.weight")
    return int(config.input_size[0] if weight is None or weight.dim() != 4 else weight.shape[1])


def _image_size(config: Any, weights: Mapping[str, Tensor]) -> tuple[int, int] | None:
    """Return the size of the square images that learned positions of patches were trained on.

    None if the weights have no positions, or those of timm's usual size. Besides a position for
    each patch there may be a few for other tokens.
    """
    positions, patch = weights.get("pos_embed"), weights.get("patch_embed.proj.weight")
    if positions is None or patch is None or positions.dim() != 3 or patch.dim() != 4:
        return None
    count, (height, width) = positions.shape[1], patch.shape[2:]
    side = next((r for n in range(_OTHER_TOKENS) if (r := isqrt(count - n)) ** 2 == count - n), 0)
    size = (side * int(height), side * int(width))
    return None if not side or size == tuple(config.input_size[1:]) else size


def _renamed(
    timm: Any, name: str, config: Any, weights: Mapping[str, Tensor]
) -> dict[str, Tensor] | None:
    """Return the weights of another program under timm's names.

    None if they have timm's names already, or not its shapes.

    Two programs of one network list the same weights in the same order; the number of classes may
    differ.
    """
    first = config.first_conv if isinstance(config.first_conv, str) else ""
    if not first or f"{first}.weight" in weights:
        return None
    network = timm.create_model(name, exportable=True)
    shapes = {key: tensor.shape for key, tensor in _learned(network.state_dict()).items()}
    tensors = list(_learned(weights).values())
    if len(tensors) != len(shapes):
        return None
    for key, tensor in zip(shapes, tensors, strict=True):
        skip = 1 if key.startswith(f"{config.classifier}.") else 0
        if tensor.shape[skip:] != shapes[key][skip:]:
            return None
    return dict(zip(shapes, tensors, strict=True))


def _learned(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: w for name, w in weights.items() if not name.endswith(_COUNTER)}


def _filled(
    timm: Any, name: str, config: Any, weights: Mapping[str, Tensor], classes: int
) -> torch.nn.Module:
    """Return the network with these weights.

    Raises:
        InvalidModel: names or shapes are others than the network's.
    """
    options: dict[str, Any] = {"in_chans": _channels(config, weights), "num_classes": classes}
    if (size := _image_size(config, weights)) is not None:
        options["img_size"] = size
    try:
        module: torch.nn.Module = timm.create_model(name, exportable=True, **options)
    except Exception as error:
        if faults.is_limit(error):
            raise
        faults.log(error)
        sizes = ", ".join(f"{option} {value}" for option, value in options.items())
        raise InvalidModel(
            f"timm cannot build timm/{name} as the weights ask for it ({sizes}). Name the network"
            " that they were trained in, width and variant included."
        ) from error
    own = module.state_dict()
    for key, tensor in own.items():
        if key in weights and weights[key].shape != tensor.shape:
            raise InvalidModel(
                f"The weights are not those of timm/{name}: '{key}' has the shape"
                f" {list(weights[key].shape)}, and the network's {list(tensor.shape)}. Name the"
                " network that they were trained in, width and variant included."
            )
    missing, unexpected = module.load_state_dict(dict(weights), strict=False)
    if missing or unexpected:
        raise InvalidModel(
            f"The weights are not those of timm/{name}: {_few(missing, 'missing')}"
            f"{_few(unexpected, 'not of it')}Name the network that they were trained in."
        )
    return module.eval()


def _few(names: list[str], state: str) -> str:
    shown = ", ".join(f"'{listed_name[:80]}'" for listed_name in names[:3])
    return f"{len(names)} are {state} ({shown}). " if names else ""
