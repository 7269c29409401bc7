"""Converts a program to an ONNX graph, and compares the graph with the program.

The graph must have the requested dynamic dimensions: one that the exporter fixed silently is an
error.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from app.domain.models import Conversion
from app.domain.problems import InvalidModel
from workers.compression import faults
from workers.compression.graph.pieces import Run, open_graph
from workers.compression.intake.formats.onnx import read_bundle
from workers.compression.intake.limits import ModelLimits
from workers.compression.intake.sources import exact, hints, shapes
from workers.compression.intake.sources.export import export
from workers.compression.intake.sources.program import BATCH, Program

EXACT = 1e-5
"""An error up to this bound is explained by another order of summation."""

TOLERANCE = {"float64": 1e-4, "float32": 1e-4, "float16": 1e-2, "bfloat16": 5e-2}
"""The largest accepted error by the type of an output; with a larger one the upload is refused."""

_SIZES = (64, 32, 16, 128, 224, 8, 512, 4, 2, 1, 1024, 16_000)
"""Sizes to try for dynamic dimensions besides the batch, until the program accepts one."""
_BELOW = (100, 2, 1)
"""Integers are drawn below these: token ids first, then masks, then zeros."""
_BATCHES = (1, 3)


def convert(program: Program, target: Path, limits: ModelLimits) -> tuple[int, Conversion]:
    """Write a program's graph to ``target``, and measure the error of its outputs.

    Returns:
        The opset of the graph, and the description of the conversion with its largest error.

    Raises:
        InvalidModel: the program does not run, cannot be exported with these inputs, or the graph
            gives other outputs.
    """
    sizes, below = _accepted(program)
    example = program.draw(sizes, 0, below)
    answers = program.answer(example)
    names = list(answers)
    _require_same_answers(list(answers.values()), program.run(example))
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="converted-") as scratch:
        try:
            export(program, example, names, Path(scratch) / "model.onnx")
        except Exception as error:
            raise _not_exported(program, sizes, error) from error
        opset = read_bundle(Path(scratch), target, limits)
    graph = onnx.load_model(target, load_external_data=False).graph
    _require_shapes(program, graph, sizes)
    run = open_graph(target, len(graph.node))
    worst, runs = _compared(program, run, names, (sizes, below))
    shapes.name_outputs(target, runs, [*program.symbols, *program.sums])
    warnings = list(program.warnings)
    if worst.error > EXACT:
        warnings.append(exact.warning(program, worst, EXACT))
    return opset, Conversion(
        source=program.source, version=program.version, max_error=worst.error, warnings=warnings
    )


def _require_same_answers(first: Sequence[Tensor], second: Sequence[Tensor]) -> None:
    """Require that a program has answered the same inputs in the same way twice.

    Raises:
        InvalidModel: it does not; most often it was saved as in training, with dropout.
    """
    if all(_is_near(a, b) for a, b in zip(first, second, strict=True)):
        return
    raise InvalidModel(
        "The network answers the same inputs in another way each time: it draws random numbers, or"
        " changes its own values in each run. Save it as for inference: call model.eval() before it"
        " is traced or exported, and leave out what counts its runs."
    )


def _is_near(first: Tensor, second: Tensor) -> bool:
    if first.shape == second.shape and first.is_floating_point():
        return torch.allclose(first, second, rtol=1e-3, atol=1e-3, equal_nan=True)
    return torch.equal(first, second)


def _accepted(program: Program) -> tuple[dict[str, int], int]:
    """Return sizes of dynamic dimensions, and a bound of integers, with which the program runs."""
    failure: Exception | None = None
    for size in _SIZES:
        for below in _BELOW:
            sizes = _sizes(program, 2, size)
            try:
                program.run(program.draw(sizes, 0, below))
            except Exception as error:
                if faults.is_limit(error):
                    raise
                failure = failure or error
            else:
                return sizes, below
        if not set(program.symbols) - {BATCH}:
            break
    assert failure is not None, "no size was tried"
    raise InvalidModel(
        f"The network does not run on random inputs of the shapes"
        f" {', '.join(f'{spec.name} {spec.shape}' for spec in program.inputs)}:"
        f" {faults.refusal(failure)}. State shapes and types that it takes:"
        f" {hints.parameter(program.inputs, sizes)}."
    )


def _sizes(program: Program, batch: int, size: int) -> dict[str, int]:
    """Return a size for each dynamic dimension; all but the batch get different sizes."""
    other_symbols = [symbol for symbol in program.symbols if symbol != BATCH]
    return {BATCH: batch} | {
        symbol_name: size * (n + 1) for n, symbol_name in enumerate(other_symbols)
    }


def _not_exported(program: Program, sizes: dict[str, int], error: Exception) -> Exception:
    if faults.is_limit(error) or isinstance(error, InvalidModel):
        return error
    dynamic = (
        f" Its dynamic dimensions may be in the way: upload it again with fixed sizes,"
        f" {hints.parameter(program.inputs, sizes | {BATCH: 1})}."
        if program.symbols
        else " Export it to ONNX where it was trained, and upload that."
    )
    return InvalidModel(
        f"torch refuses to export the network to ONNX: {faults.refusal(error)}.{dynamic}"
    )


def _require_shapes(program: Program, graph: onnx.GraphProto, sizes: dict[str, int]) -> None:
    """Require that the graph has the requested inputs and dynamic dimensions.

    Raises:
        InvalidModel: an input is missing, or a dimension is fixed that should be dynamic.
    """
    graph_shapes = {value.name: value.type.tensor_type.shape.dim for value in graph.input}
    for spec in program.inputs:
        if spec.name not in graph_shapes:
            raise InvalidModel(
                f"The network does not use its input '{spec.name}'. Export it without that input."
            )
        shape = [d.dim_param or d.dim_value for d in graph_shapes[spec.name]]
        mismatches = [
            (want, have)
            for want, have in zip(spec.shape, shape, strict=True)
            if (have != want if isinstance(want, int) else not isinstance(have, str))
        ]
        if mismatches:
            raise InvalidModel(
                f"The exporter fixed the shape of '{spec.name}' to {shape}, and {spec.shape}"
                f" was asked for. Upload it again with fixed sizes,"
                f" {hints.parameter(program.inputs, sizes | {BATCH: 1})}."
            )


def _compared(
    program: Program, run: Run, names: list[str], accepted: tuple[dict[str, int], int]
) -> tuple[exact.Difference, list[shapes.Run]]:
    """Return the output with the largest error over several inputs and sizes, and all shapes.

    Raises:
        InvalidModel: the graph does not run where the program does, or gives other outputs.
    """
    sizes, below = accepted
    worst, runs = exact.Difference(0.0), list[shapes.Run]()
    for seed, tried in enumerate(_trials(program, sizes)):
        inputs = program.draw(tried, seed, below)
        try:
            expected = program.run(inputs)
        except Exception as error:
            if faults.is_limit(error):
                raise
            if tried[BATCH] == sizes[BATCH]:
                continue
            raise InvalidModel(
                f"The network itself takes no batch of {tried[BATCH]}: {faults.refusal(error)}."
                f" Upload it again with fixed sizes, {hints.parameter(program.inputs, sizes)}."
            ) from error
        feeds = {
            spec.name: tensor.numpy() for spec, tensor in zip(program.inputs, inputs, strict=True)
        }
        described = ", ".join(f"{name} {list(array.shape)}" for name, array in feeds.items())
        try:
            answers = run(feeds, None)
        except Exception as error:
            if faults.is_limit(error):
                raise
            raise InvalidModel(
                f"The exported graph does not run on {described}, which the network takes:"
                f" {faults.runtime_words(error)} Upload it again with fixed sizes,"
                f" {hints.parameter(program.inputs, sizes | {BATCH: 1})}."
            ) from error
        for place, (name, reference) in enumerate(zip(names, expected, strict=True)):
            largest = _error(name, reference, answers[name], described, program)
            if largest > worst.error:
                worst = exact.Difference(largest, inputs, place, answers[name])
        runs.append((tried, {name: answers[name].shape for name in names}))
    return worst, runs


def _trials(program: Program, sizes: dict[str, int]) -> list[dict[str, int]]:
    """Return the exported sizes, then other batch sizes, then other sizes of the rest."""
    if not program.symbols:
        return [sizes, sizes, sizes]
    batches = [sizes | {BATCH: batch} for batch in _BATCHES] if BATCH in program.symbols else []
    other_sizes = [
        {
            name: size if name == BATCH else max(1, round(size * factor))
            for name, size in sizes.items()
        }
        for factor in (0.75, 1.5)
        if set(program.symbols) - {BATCH}
    ]
    empty_sizes = [sizes | {name: 0} for name in program.may_be_empty if name in program.symbols]
    return [sizes, *batches, *other_sizes, *empty_sizes]


def _error(
    name: str, reference: Tensor, output: NDArray[np.generic], described: str, program: Program
) -> float:
    """Return the largest error of an output, relative to its largest value where that is above 1.

    Raises:
        InvalidModel: the error is too large, or shape or type differ.
    """
    expected = (
        reference.detach().float().numpy() if reference.is_floating_point() else reference.numpy()
    )
    if expected.shape != output.shape:
        raise InvalidModel(
            f"On {described}, {program.source} gives '{name}' the shape {list(expected.shape)}, and"
            f" the exported graph {list(output.shape)}. Upload it with fixed sizes, or export it to"
            " ONNX where it was trained."
        )
    if not expected.size:
        return 0.0
    reference_values, values = expected.astype(np.float64), output.astype(np.float64)
    equal = (reference_values == values) | (np.isnan(reference_values) & np.isnan(values))
    with np.errstate(invalid="ignore"):
        differences = np.where(equal, 0.0, np.abs(reference_values - values))
    finite = np.abs(reference_values[np.isfinite(reference_values)])
    largest = float(np.nan_to_num(differences, nan=np.inf).max()) / max(
        1.0, float(finite.max(initial=0))
    )
    bound = TOLERANCE.get(str(reference.dtype).removeprefix("torch."), 0.0)
    if largest > bound:
        raise InvalidModel(
            f"On {described}, the exported graph's '{name}' differs from {program.source}'s by"
            f" {largest:.1e}, and at most {bound:.0e} is allowed. Export it to ONNX where it was"
            " trained, and upload that."
        )
    return largest
