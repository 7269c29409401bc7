"""What a library raised, as a problem in plain words.

A user reads the step, the node and what to do. The library's words, with their stack, go to
standard error: a worker keeps that as ``engine.log``.
"""

import contextlib
import errno
import re
import sys
import traceback
from collections.abc import Iterator

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


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out: torch and onnxruntime say so in errors of other classes."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in _OUT_OF_MEMORY)


def is_limit(error: BaseException) -> bool:
    """Return whether a limit on memory or storage was passed: no fault of model or engine."""
    storage = isinstance(error, OSError) and error.errno in _STORAGE_ERRORS
    return storage or is_out_of_memory(error)


def log(error: BaseException) -> None:
    """Write an error with its stack to standard error."""
    traceback.print_exception(error, file=sys.stderr)


def note_node(error: BaseException, node: str) -> None:
    """Note on an error at which node it was raised; the innermost note counts."""
    error.add_note(_NODE_NOTE + node)


def label(node: ir.Node) -> str:
    """Return what a message calls a node: its name and its operator."""
    return f"'{node.name or node.outputs[0].name}' ({node.op_type})"


def node_of(error: BaseException) -> str | None:
    """Return the node at which an error was raised, as ``label`` calls it; None if unknown.

    It is the node of a note, else the one that onnxruntime's text names, else the one that the
    innermost function with a local variable ``node`` was at.
    """
    for each in _causes(error):
        for note in getattr(each, "__notes__", ()):
            if note.startswith(_NODE_NOTE):
                return str(note.removeprefix(_NODE_NOTE))
    for each in _causes(error):
        if named := _named_by_runtime(each):
            return f"'{named['name']}' ({named['op']})"
    for each in _causes(error):
        frames = [frame for frame, _ in traceback.walk_tb(each.__traceback__)]
        for frame in reversed(frames):
            if isinstance(node := frame.f_locals.get("node"), ir.Node):
                return label(node)
    return None


def node_named_by_runtime(error: BaseException) -> str | None:
    """Return the name of the node that onnxruntime's text names, None if it names none."""
    named = _named_by_runtime(error)
    return None if named is None else named["name"]


def runtime_words(error: BaseException) -> str:
    """Return what onnxruntime says of a user's model, without its codes, files and line numbers."""
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
    """Turn an error that no step expects into a problem; it is logged.

    A problem passes as it is, and so does an error that a limit explains.

    Raises:
        StepFailed: instead of the error, with what the user is told.
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
    """Log an error that nothing in the engine expects, and return what the user is told."""
    log(error)
    node = node_of(error)
    where = f", at node {node}" if node else ""
    return InternalError(
        f"The engine failed at '{stage}'{where}. This is a fault of ours, and another try would end"
        " in the same way: please report it with the id of the job or of the upload."
    )


def _named_by_runtime(error: BaseException) -> re.Match[str] | None:
    found = (pattern.search(str(error)) for pattern in _NAMED_BY_RUNTIME)
    return next((each for each in found if each is not None), None)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, then what caused it, then what caused that."""
    each: BaseException | None = error
    while each is not None:
        yield each
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
