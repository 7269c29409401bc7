"""Turns exceptions of libraries into problems in plain words.

The problem names the step, the node and what to do. The exception itself, with its stack, goes to
standard error, which a worker keeps as ``engine.log``.
"""

import contextlib
import errno
import re
import sys
import traceback
from collections.abc import Iterator
from typing import Any

import onnx_ir as ir

from app.domain.problems import InternalError, Problem, StepFailed

_OUT_OF_MEMORY = (
    "can't allocate memory",
    "out of memory",
    "bad_alloc",
    "bad allocation",
    "Failed to allocate",
)
_STORAGE_ERRORS = frozenset({errno.EFBIG, errno.ENOSPC, errno.EDQUOT})
_NAMED_BY_RUNTIME = (
    re.compile(r"while running (?P<op>\w+) node\. Name:'(?P<name>[^']+)'"),
    re.compile(r"In Node, \(\"(?P<name>[^\"]+)\", (?P<op>\w+)"),
    re.compile(r"Node \((?P<name>[^)]+)\) Op \((?P<op>\w+)\)"),
    re.compile(r"implementation for (?P<op>\w+)\(\d+\) node with name '(?P<name>[^']+)'"),
    re.compile(r"ONNX node '<Node\((?P<op>\w+)\): (?P<name>[^>]+)>'"),
    re.compile(r"Op(?:type)? \((?P<op>\w+)\).* node \((?P<name>[^)]+)\)"),
)
_NO_KERNEL = re.compile(r"Could not find an implementation for (?P<op>\w+)\(")
_CLUTTER = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : \w+ : "
    r"|Non-zero status code returned while running \w+ node\. Name:'[^']*' "
    r"|Status Message: "
    r"|/onnxruntime_src/\S+ onnxruntime::.*? was false\. "
    r"|\w+\.(?:h|cc):\d+ \w+ "
    r"|Load model from \S+ failed:"
)
_NODE_NOTE = "at node "
ANNOTATION = "node"
"""Under which key an operation of an exported program has the label of its node."""
_REFUSED_OPERATOR = re.compile(
    r"(?:convert function for op '|Unsupported fx node |conversion rule found for operations: )"
    r"(?P<op>[\w.:]+)"
    r"|(?P<torch>\b(?:aten|prim|prims|transformers|quantized_decomposed)(?:\.|::)\w+)"
)
"""How torch and converters name an operator that they do not take."""
_VALUE_DEPENDENT = (
    "data-dependent",
    "DataDependent",
    "DynamicOutputShape",
    "is_nonzero",
    "_local_scalar_dense",
)
_FIXED_DIMENSION = ("onstraint", "user-specified ranges", "specialized it to be a constant")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out; torch and onnxruntime have their own errors for it."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in _OUT_OF_MEMORY)


def is_limit(error: BaseException) -> bool:
    """Return whether a limit on memory or storage was passed: no fault of the model."""
    storage = isinstance(error, OSError) and error.errno in _STORAGE_ERRORS
    return storage or is_out_of_memory(error)


def log(error: BaseException) -> None:
    """Write an error with its stack to standard error."""
    traceback.print_exception(error, file=sys.stderr)


def sentence(said: BaseException | str, most: int = 400) -> str:
    """Return a library's words as a sentence on one line.

    Args:
        said: an error, or its text; an error without a text is named by its class.
        most: how many letters are kept; the middle of a longer text is left out.
    """
    text = " ".join(str(said).split()) or type(said).__name__
    if len(text) > most:
        text = f"{text[: most // 2]} … {text[-most // 2 :]}"
    return text if text.endswith((".", "!", "?")) else f"{text}."


def refusal(error: BaseException) -> str:
    """Return why torch or a converter does not take a network: its operator, its node.

    Their own messages are for those who develop them; they go to standard error.

    Returns:
        A clause whose subject is the converter, such as "it does not take the operator X".
    """
    log(error)
    node = node_of(error)
    where = f" at node {node}" if node else ""
    text = " ".join(f"{type(cause).__name__} {cause}" for cause in causes(error))
    if any(word in text for word in _VALUE_DEPENDENT):
        return f"a branch or a shape depends on values{where}, and it needs the same for all inputs"
    if found := _REFUSED_OPERATOR.search(text):
        return f"it does not take the operator {found['op'] or found['torch']}{where}"
    if any(word in text for word in _FIXED_DIMENSION):
        return f"a dimension that should be dynamic is fixed by what the network computes{where}"
    return f"it fails{where}; its own message is in the log of the engine"


def note_node(error: BaseException, node: str) -> None:
    """Attach to an error the node at which it was raised; the innermost node counts."""
    error.add_note(_NODE_NOTE + node)


def label(node: ir.Node) -> str:
    """Return the name of a node for a message: its name and its operator."""
    return f"'{node.name or node.outputs[0].name}' ({node.op_type})"


def label_of(operation: Any) -> str | None:
    """Return the label of the node that an operation of an exported program computes."""
    annotations = operation.meta.get("custom") or {}
    return annotations.get(ANNOTATION)


def node_of(error: BaseException) -> str | None:
    """Return the node at which an error was raised, as ``label`` calls it; None if unknown.

    The node is taken from a note, else from onnxruntime's text, else from the local variable
    ``node`` of the innermost function that has one.
    """
    for cause in causes(error):
        for note in getattr(cause, "__notes__", ()):
            if note.startswith(_NODE_NOTE):
                return str(note.removeprefix(_NODE_NOTE))
    for cause in causes(error):
        if named := _named_by_runtime(cause):
            return f"'{named['name']}' ({named['op']})"
    for cause in causes(error):
        frames = [frame for frame, _ in traceback.walk_tb(cause.__traceback__)]
        for frame in reversed(frames):
            if isinstance(node := frame.f_locals.get("node"), ir.Node):
                return label(node)
    return None


def node_named_by_runtime(error: BaseException) -> str | None:
    """Return the name of the node that onnxruntime's text names, None if it names none."""
    named = _named_by_runtime(error)
    return None if named is None else named["name"]


def runtime_words(error: BaseException) -> str:
    """Return the text of an onnxruntime error, without its codes, files and line numbers."""
    node = node_of(error)
    text = _CLUTTER.sub("", " ".join(str(error).split())).strip()[:400]
    if missing := _NO_KERNEL.search(text):
        text = (
            f"it has no {missing['op']} for the types that this model gives it. Few operators run"
            " in float64 or bfloat16: export the model in float32 or float16."
        )
    return f"at node {node}: {text}" if node else text


@contextlib.contextmanager
def of_step(method: str) -> Iterator[None]:
    """Turn an unexpected error of a step into a problem, and log it.

    A problem passes unchanged, and so does an error that a limit explains.

    Raises:
        StepFailed: in place of the error.
    """
    try:
        yield
    except Problem:
        raise
    except Exception as error:
        if is_limit(error):
            raise
        log(error)
        node = node_of(error)
        where = f" at node {node}" if node else ""
        way_out = "name that node in 'ignore', or use" if node else "use"
        raise StepFailed(
            f"'{method}' could not be carried out on this model{where}. This is a fault of ours:"
            " please report it with this job's id. Until it is mended,"
            f" {way_out} another mode or method."
        ) from error


def at_stage(stage: str, error: Exception) -> Problem:
    """Log an unexpected error of the engine, and return the problem for the user."""
    log(error)
    node = node_of(error)
    where = f", at node {node}" if node else ""
    return InternalError(
        f"The engine failed at '{stage}'{where}. This is a fault of ours, and another try would end"
        " in the same way: please report it with the id of the job or of the upload."
    )


def _named_by_runtime(error: BaseException) -> re.Match[str] | None:
    matches = (pattern.search(str(error)) for pattern in _NAMED_BY_RUNTIME)
    return next((match for match in matches if match is not None), None)


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its chain of causes."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
