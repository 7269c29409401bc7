"""Take weights off the list of inputs."""

from collections.abc import Collection

import onnx_ir as ir
import onnx_ir.passes.common as passes

from app.domain.wording import listed

_CONSTANTS = 4
"""The IR version from which on initializers need not be inputs."""
_SHOWN = 5
"""The most names in a note."""


def detach_initializers(model: ir.Model) -> int:
    """Make weights constants that old exporters (IR version 3) also list as inputs.

    1. An input with an initializer is a weight and no input any more.
    2. Inputs without one keep their names and their order.
    3. The IR version is the first one that knows such constants, or newer.
    """
    before = len(model.graph.inputs)
    passes.RemoveInitializersFromInputsPass()(model)
    model.ir_version = max(model.ir_version, _CONSTANTS)
    return before - len(model.graph.inputs)


def inputs_with_default(model: ir.Model) -> list[str]:
    """Return the inputs that have a value in the file, which a run may replace.

    Where all constants are inputs, an old exporter has listed its weights: none is returned.

    Args:
        model: as uploaded.
    """
    listed = [str(value.name) for value in model.graph.inputs if value.is_initializer()]
    optional = model.ir_version >= _CONSTANTS and len(listed) < len(model.graph.initializers)
    return listed if optional else []


def defaults_taken(with_default: Collection[str], model: ir.Model) -> list[str]:
    """Return a note on inputs that became constants; none where all are inputs still.

    Args:
        with_default: what ``inputs_with_default`` says of the upload.
        model: what was made of it.
    """
    left = {str(value.name) for value in model.graph.inputs}
    taken = [name for name in with_default if name not in left]
    if not taken:
        return []
    names = listed([f"'{name[:80]}'" for name in taken], _SHOWN)
    note = (
        f"Inputs that have a default value became constants of that value: {names}. If one"
        " is to stay an input, take its initializer out of the file, and upload it again."
    )
    return [note]
