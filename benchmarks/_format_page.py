"""The figures of all formats as tables in ``docs/formats.md``, and the bars that they meet."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "formats.md"
MARKS = "<!-- by make formats -->", "<!-- end -->"
"""The tables stand between these."""
CONVERSION, STEP = 1e-5, 1.0
"""The bars: the error of a conversion, and that of an int8 file of a CNN in steps of its grid."""
CONVOLUTIONAL = ("cnn", "depthwise")
EXACT_TARGETS = ("litert", "litert_micro", "executorch")

Row = Mapping[str, Any]
Figure = Callable[[list[Row]], str]


def write(rows: Sequence[Row], formats: Sequence[str], wanted: int) -> None:
    """Put the tables into the documentation, in place of the last ones.

    Args:
        rows: one an artifact.
        formats: the formats, in the order of the columns.
        wanted: how many jobs there are.
    """
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    tables = "\n".join(lines(rows, formats, wanted))
    PAGE.write_text(f"{before}{MARKS[0]}\n\n{tables}\n\n{MARKS[1]}{after}", encoding="utf-8")


def lines(rows: Sequence[Row], formats: Sequence[str], wanted: int) -> Iterator[str]:
    """Yield the lines of the page."""
    yield f"{len(set(map(_job, rows)))} of {wanted} jobs were measured."
    yield from days(rows)
    yield from ("", "| bar | the worst | met | samples that meet it |", "|---|---|---|---|")
    yield bar(
        f"conversions within {CONVERSION:g}", CONVERSION,
        [(row["conversion"], f"{row['in']}, {row['network']}")
         for row in rows if row.get("conversion") is not None],
    )  # fmt: skip
    for target in EXACT_TARGETS:
        yield bar(
            f"`{target}` int8 of the CNNs within a step of the ONNX int8", STEP,
            [(row["error"] / row["step"], f"{row['in']}, {row['network']}") for row in rows
             if row["out"] == target and row["network"] in CONVOLUTIONAL and row.get("step")
             and row["error"] is not None],
            [row["within"] for row in rows if row["out"] == target and row.get("within")],
        )  # fmt: skip
    kinds = list(dict.fromkeys(row["in"] for row in rows))
    yield from ("", "The largest difference of a conversion to its framework:", "")
    yield from table(rows, ["network"], "in", kinds, largest("conversion"))
    yield from ("", "The largest difference to the ONNX graph, over all uploads:", "")
    yield from table(rows, ["network", "steps"], "out", formats, largest("error"))
    yield from ("", "Thousands of bytes, the median over the uploads:", "")
    yield from table(rows, ["network", "steps"], "out", formats, kilobytes)
    yield from (
        "",
        "Times as long as the ONNX file in onnxruntime, the median over the uploads:",
        "",
    )
    base = {_job(row): row["ms"] for row in rows if row["out"] == "onnx" and row.get("ms")}
    yield from table(rows, ["network", "steps"], "out", formats, times(base))
    yield from reasons(rows)


def days(rows: Sequence[Row]) -> Iterator[str]:
    """Yield how many jobs were measured on which day."""
    by_day: dict[str, dict[str, dict[tuple[str, ...], None]]] = {}
    for row in rows:
        by_day.setdefault(row["day"], {}).setdefault(row["in"], {})[_job(row)] = None
    yield from ("", "| day | jobs | of each kind of file |", "|---|---|---|")
    for day, kinds in sorted(by_day.items()):
        each = ", ".join(f"{kind} {len(jobs)}" for kind, jobs in kinds.items())
        yield f"| {date.fromisoformat(day):%d %B %Y} | {sum(map(len, kinds.values()))} | {each} |"


def bar(
    name: str,
    most: float,
    found: Sequence[tuple[float, str]],
    within: Sequence[tuple[int, int]] = (),
) -> str:
    """Return the row of a bar, with the figure that is nearest to it or worst beyond it.

    Args:
        name: what has to be met.
        most: the largest figure that meets it.
        found: a figure and what it is of, for each file.
        within: how many samples meet it and of how many, for each file where that was counted.
    """
    if not found:
        return f"| {name} | not measured | | |"
    worst, where = max(found)
    met = "yes" if worst <= most else "**no**"
    samples = " of ".join(f"{sum(counts):,}" for counts in zip(*within, strict=True))
    return f"| {name} | {worst:.2g} ({where}), of {len(found)} | {met} | {samples or '–'} |"


def table(
    rows: Sequence[Row], labels: Sequence[str], key: str, columns: Sequence[str], figure: Figure
) -> Iterator[str]:
    """Yield a table with a column for each value of a key, and a row for each of the labels'."""
    yield f"| {' | '.join([*labels, *columns])} |"
    yield f"|{'---|' * (len(labels) + len(columns))}"
    for label in dict.fromkeys(tuple(row[name] for name in labels) for row in rows):
        of_label = [row for row in rows if tuple(row[name] for name in labels) == label]
        cells = [figure([row for row in of_label if row[key] == column]) for column in columns]
        yield f"| {' | '.join([*label, *cells])} |"


def largest(name: str) -> Figure:
    """Return what shows the largest figure of some rows."""

    def shown(rows: list[Row]) -> str:
        found = [row[name] for row in rows if row.get(name) is not None]
        return f"{max(found):.2g}" if found else "–"

    return shown


def kilobytes(rows: list[Row]) -> str:
    """Return the median size of some artifacts."""
    sizes = [row["bytes"] for row in rows if row.get("bytes")]
    return f"{median(sizes) / 1000:.0f}" if sizes else "–"


def times(base: Mapping[tuple[str, ...], float]) -> Figure:
    """Return what shows how much longer than those of the ONNX files some runs took."""

    def shown(rows: list[Row]) -> str:
        found = [row["ms"] / base[_job(row)] for row in rows if row.get("ms") and _job(row) in base]
        return f"{median(found):.2g}" if found else "–"

    return shown


def reasons(rows: Iterable[Row]) -> Iterator[str]:
    """Yield what is said of artifacts that were not run, or are otherwise than asked for."""
    said: dict[tuple[str, str], dict[str, None]] = {}
    for row in rows:
        if row.get("reason"):
            key = row["out"], " ".join(row["reason"].split())[:400]
            said.setdefault(key, {})[f"{row['network']}"] = None
    if said:
        yield from ("", "What the artifacts say of themselves:", "")
    for (out, reason), networks in said.items():
        yield f"- {out} ({', '.join(networks)}): {reason}"


def _job(row: Row) -> tuple[str, ...]:
    return row["in"], row["network"], row["steps"]
