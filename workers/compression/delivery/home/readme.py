"""What the user is told in the archive: what lies there, and how it is loaded."""

from collections.abc import Sequence

from workers.compression.delivery.home.weights import Home
from workers.compression.intake.sources.program import Program

WEIGHTS, KEPT, README = "weights.safetensors", "kept.json", "README.md"

_TORCH = """
```python
from safetensors.torch import load_file

model.load_state_dict(load_file("weights.safetensors"), strict=False)
```
"""
_TORCH_NARROW = """
```python
import planish

model = planish.narrow(model, ".")  # this directory, or the zip: its layers get the sizes, in place
```

Written out, it is what `kept.json` says: for each tensor and axis the indices that are left of the
wide one (`narrow = wide.index_select(axis, indices)`), in order. Layers that count channels
themselves (`groups` of a depthwise convolution, `num_features`, `normalized_shape`) get the new
counts, and so does your own code where it writes them out.
"""
_KERAS = """
```python
import keras

model = keras.models.load_model("{file}")
```

Its weights by path, as `weights.safetensors` has them, go into a model of your own like this:

```python
from safetensors.numpy import load_file

weights = load_file("weights.safetensors")
for variable in model.variables:
    if variable.path in weights:
        variable.assign(weights[variable.path])
```
"""
_KERAS_NARROW = """
`kept.json` says for each weight and axis which indices are left of the wide one. Give your layers
the widths of `weights.safetensors` (`filters`, `units`), and assign the weights by their paths.
"""


def text(program: Program, home: Home, file: str | None, notes: Sequence[str]) -> str:
    """Return the text of the archive's README.

    Args:
        program: the upload.
        home: the weights after the steps.
        file: the name of the whole file in the framework's format, where there is one.
        notes: what else there is to know.
    """
    keras = program.source == "keras"
    lines = [
        "# The result, back in its framework",
        "",
        f"Made of a model of {program.source} {program.version}.",
        "",
        f"- `{WEIGHTS}`: all weights after the steps, under the upload's names and in its layouts",
    ]
    if file is not None:
        lines.append(f"- `{file}`: the whole model, layers and weights")
    if home.kept:
        lines.append(f"- `{KEPT}`: which channels are left, by layer and by weight")
    lines += ["", "## How to load it"]
    if file is not None:
        lines.append(_KERAS.format(file=file))
    elif keras:
        lines.append(_KERAS_NARROW)
    else:
        lines.append(_TORCH_NARROW if home.kept else _TORCH)
    if home.unchanged:
        listed = ", ".join(f"`{name}`" for name in home.unchanged[:20])
        lines += [
            "## What did not change",
            "",
            f"The graph does not read these, or has them as constants of its own: {listed}.",
            "",
        ]
    if notes:
        lines += ["## What to know", "", *(f"- {note}" for note in notes), ""]
    return "\n".join(lines)
