"""Finds the weights of one network among the values that a training program has saved."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""What torch's own wrappers (compile, FSDP, checkpoints of activations) put into names."""


@dataclass(frozen=True)
class Found:
    """The weights of a network, by its own names."""

    names: dict[str, str]
    """The name in the file for each name of the network."""
    notes: list[str]
    """What of the file was left out."""


def find(names: Iterable[str], layers: Sequence[str]) -> Found:
    """Return the weights of the network that one of these layers belongs to.

    A training program saves the network within a larger module, under a prefix (``model.``), beside
    its losses, its metrics and copies of the network. The prefix is what precedes the name of the
    network's first layer.

    Args:
        names: the names in the file, in order.
        layers: the network's names of its first layer, or of another that it surely has.
    """
    plain: dict[str, str] = {}
    for name in names:
        plain.setdefault(_unwrapped(name), name)
    wanted = [f"{layer}.weight" for layer in layers]
    prefixes = [
        name.removesuffix(layer)
        for name in plain
        for layer in wanted
        if name == layer or name.endswith(f".{layer}")
    ]
    outermost = _outermost(prefixes)
    if not outermost or outermost == [""]:
        return Found(plain, [])
    prefix = outermost[0]
    network = {
        name.removeprefix(prefix): stored
        for name, stored in plain.items()
        if name.startswith(prefix)
    }
    others = [stored for name, stored in plain.items() if not name.startswith(prefix)]
    return Found(network, _notes(outermost, others))


def _outermost(prefixes: Iterable[str]) -> list[str]:
    """Return the prefixes that begin with none of the others, once each and in their order."""
    places = {prefix: place for place, prefix in enumerate(dict.fromkeys(prefixes))}
    kept: list[str] = []
    for prefix in sorted(places):  # those that begin with it come right after it
        if not kept or not prefix.startswith(kept[-1]):
            kept.append(prefix)
    return sorted(kept, key=places.__getitem__)


def _unwrapped(name: str) -> str:
    for wrapper in _WRAPPERS:
        name = name.replace(wrapper, "")
    return name


def _notes(prefixes: Sequence[str], others: Sequence[str]) -> list[str]:
    if not others:
        return []
    first = prefixes[0][:80]
    if len(prefixes) > 1:
        listed = ", ".join(f"'{prefix[:80]}'" for prefix in prefixes[:5])
        note = (
            f"The file holds the network {len(prefixes)} times ({listed}): the weights of"
            f" '{first}' were taken. For another, save its state_dict alone."
        )
    else:
        note = (
            f"{len(others)} values of the file are outside of the network ('{first}') and were"
            f" left out, such as '{others[0][:80]}'."
        )
    return [note]
