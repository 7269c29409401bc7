"""The price list of a graph: what a step measured and calibrated of it, for later jobs.

A step that chooses among forms measures the same whatever it is asked to prefer. What it measures
is kept in one file of its directory, and a later step of the same graph, data and parameters is
given that file (``app/store/price_lists.py``).
"""

import json
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from app.domain.directory import MOST_PRICE_BYTES
from app.domain.layer_times import form_of

Value = TypeVar("Value")

_FORM = 3
"""The form of the file; a file of another form is not read."""

_MOST = 10_000
"""The greatest number of entries; the oldest ones are left out."""

_CONTENTS = "contents"
"""The array of the file that holds everything but arrays, as UTF-8."""


@dataclass(frozen=True)
class Entry:
    """One thing that was measured or made."""

    figures: Any
    """Numbers, words, lists and mappings, as JSON has them."""
    arrays: Sequence[NDArray[Any]] = ()

    @property
    def nbytes(self) -> int:
        """The bytes of its arrays."""
        return sum(array.nbytes for array in self.arrays)


@dataclass(frozen=True)
class PriceList:
    """What is known of a graph: entries that are made once, by digests of what they depend on."""

    graph: str = ""
    """The fingerprint of the graph, in hexadecimal digits; empty for a list that keeps nothing."""
    earlier: dict[str, Entry] = field(default_factory=dict)
    """Made by earlier jobs."""
    made: dict[str, Entry] = field(default_factory=dict)
    """Made by this one."""
    taken: set[str] = field(default_factory=set)
    """The entries of earlier jobs that this one used."""

    @classmethod
    def read(cls, path: Path, graph: str) -> "PriceList":
        """Return the list in a file; an empty one where there is none, or none of this graph."""
        try:
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                contents = json.loads(file[_CONTENTS].tobytes())
                if [contents["form"], contents["graph"]] != [_FORM, graph]:
                    return cls(graph)
                entries = {
                    name: Entry(entry["figures"], [file[array] for array in entry["arrays"]])
                    for name, entry in contents["entries"].items()
                }
        except (EOFError, OSError, ValueError, LookupError, TypeError, AttributeError, BadZipFile):
            return cls(graph)
        return cls(graph, entries)

    def value(
        self,
        what: Hashable,
        make: Callable[[], Value],
        pack: Callable[[Value], Entry | None],
        unpack: Callable[[Entry], Value],
        holds: Callable[[Value], bool] = lambda _: True,
    ) -> Value:
        """Return what is known of something, or make it, and keep it.

        Args:
            what: everything that it depends on besides graph, data, seed, threads and versions.
            make: makes it; called if it is not known.
            pack: returns what is kept of it; None where that would be too much.
            unpack: returns it as ``make`` does.
            holds: whether what is known is good enough; it is made anew where it is not.
        """
        if not self.graph:
            return make()
        name = form_of(what)
        known = self.made.get(name) or self.earlier.get(name)
        if known is not None and holds(value := unpack(known)):
            if name not in self.made:
                self.taken.add(name)
            return value
        value = make()
        if (entry := pack(value)) is not None:
            self.made[name] = entry
        return value

    def figures(
        self,
        what: Hashable,
        kind: type[Value],
        measure: Callable[[], Value],
        holds: Callable[[Value], bool] = lambda _: True,
    ) -> Value:
        """Return figures that are known, or measure and keep them.

        Args:
            what: everything that they depend on, as in ``value``.
            kind: their type: a dataclass of numbers, or a list of them.
            measure: measures them; called if they are not known.
            holds: whether those that are known are good enough.
        """
        adapter = TypeAdapter(kind)

        def pack(value: Value) -> Entry:
            return Entry(adapter.dump_python(value))

        return self.value(what, measure, pack, lambda e: adapter.validate_python(e.figures), holds)

    def write(self, path: Path) -> None:
        """Write the list into a file, whole: the newest entries that there is room for."""
        if not self.made:
            return
        arrays = dict[str, NDArray[Any]]()
        entries = {}
        for name, entry in self._fitting().items():
            numbered = {f"{name}.{place}": array for place, array in enumerate(entry.arrays)}
            entries[name] = {"figures": entry.figures, "arrays": list(numbered)}
            arrays |= numbered
        contents = {"form": _FORM, "graph": self.graph, "entries": entries}
        text = np.frombuffer(json.dumps(contents).encode(), np.uint8)
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            np.savez(file, allow_pickle=False, **{_CONTENTS: text}, **arrays)
        part.replace(path)

    def _fitting(self) -> dict[str, Entry]:
        """Return the newest entries whose number and bytes are within bounds, the oldest first."""
        fitting, room = dict[str, Entry](), MOST_PRICE_BYTES // 2
        for name, entry in reversed({**self.earlier, **self.made}.items()):
            if len(fitting) < _MOST and entry.nbytes <= room:
                fitting[name] = entry
                room -= entry.nbytes
        return dict(reversed(fitting.items()))

    def note(self) -> list[str]:
        """Return a note on what was taken from earlier jobs; none if nothing was."""
        if not self.taken:
            return []
        count = len(self.taken)
        entries = "One entry" if count == 1 else f"{count} entries"
        taken = f"{entries} of the model's price list {'was' if count == 1 else 'were'} taken"
        return [f"{taken}, which an earlier job made; {len(self.made)} were added."]
