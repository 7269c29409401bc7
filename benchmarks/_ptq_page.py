"""What was measured of quantization after training, as tables in ``docs/benchmarks.md``."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from benchmarks import _ptq_bars
from benchmarks._ptq_bars import Row, Ways
from benchmarks._report import Bar

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
MARKS = "<!-- by benchmarks.ptq -->", "<!-- end -->"
"""The tables stand between these."""


def write(results: Mapping[str, Ways], ours: Collection[str]) -> None:
    """Put the tables into the documentation, in place of the last ones."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    tables = "\n".join(_lines(results, ours))
    PAGE.write_text(f"{before}{MARKS[0]}\n\n{tables}\n\n{MARKS[1]}{after}", encoding="utf-8")


def _lines(results: Mapping[str, Ways], ours: Collection[str]) -> Iterator[str]:
    rows = [row for ways in results.values() for row in ways.values()]
    days = sorted({row["at"].rsplit(" ", 1)[0] for row in rows})
    loads = sorted(row["load"] for row in rows)
    yield (
        f"Measured on {', '.join(days)}, at loads of {loads[0]:g} to {loads[-1]:g}"
        f" (median {loads[len(loads) // 2]:g}), {len(rows)} files of {len(results)} models."
    )
    first, *others = ours
    yield from ("", f"| model | {_heads(first)} | fastest peer within the point | {_heads('it')} |")
    yield "|---" * 8 + "|"
    for name, ways in sorted(results.items()):
        good = _ptq_bars.within(ways, ours)
        best = max(good, key=lambda way: _ptq_bars.speed(good[way]), default="none")
        cells = [*_cells(ways.get(first)), best, *_cells(good.get(best))]
        yield f"| {name} | {' | '.join(cells)} |"
    yield from ("", f"| model | {' | '.join(_heads(way) for way in others)} |")
    yield "|---" * (1 + 3 * len(others)) + "|"
    for name, ways in sorted(results.items()):
        cells = [cell for way in others for cell in _cells(ways.get(way))]
        yield f"| {name} | {' | '.join(cells)} |"
    yield from _of_peers(results, ours)
    yield from _of_bars(_ptq_bars.of(results, ours), ours)


def _heads(way: str) -> str:
    return f"{way}: points lost | smaller | faster, one thread"


def _cells(row: Row | None) -> tuple[str, str, str]:
    if row is None:
        return "–", "–", "–"
    if "problem" in row:
        return "failed", "–", "–"
    value, low, high = row["faster"]["1"]
    return f"{row['lost']:.2f}", f"{row['smaller']:.2f}×", f"{value:.2f}× ({low:.2f}–{high:.2f})"


def _of_peers(results: Mapping[str, Ways], ours: Collection[str]) -> Iterator[str]:
    """Yield a table of all set-ups: on how many models each is good."""
    names = dict.fromkeys(way for ways in results.values() for way in ways)
    yield from ("", "| way | models | gave a file | within the point | and not slower or larger |")
    yield "|---" * 5 + "|"
    for way in sorted(names, key=lambda way: way not in ours):
        rows = [ways[way] for ways in results.values() if way in ways]
        files = [row for row in rows if "problem" not in row]
        kept = [row for row in files if row["lost"] <= _ptq_bars.POINT]
        good = [row for row in kept if _ptq_bars.no_worse(row)]
        yield f"| {way} | {len(rows)} | {len(files)} | {len(kept)} | {len(good)} |"


def _of_bars(bars: list[Bar], ours: Collection[str]) -> Iterator[str]:
    """Yield a table of bars: how many models meet each, and what misses it."""
    yield from ("", "| bar | way | met | missed |", "|---|---|---|---|")
    for way in ours:
        kinds = dict.fromkeys(bar.what.partition(f", {way}: ")[2] for bar in bars)
        for kind in filter(None, kinds):
            of = [bar for bar in bars if bar.what.endswith(f", {way}: {kind}")]
            missed = [
                f"{bar.what.partition(', ')[0]} {bar.measured:.3g}" for bar in of if not bar.met
            ]
            wanted = f"{kind}, {of[0].bound} {of[0].wanted:.3g}"
            met = f"{len(of) - len(missed)} of {len(of)}"
            yield f"| {wanted} | {way} | {met} | {'; '.join(missed)} |"
