"""Windows that are no larger than what they read, for OpenVINO.

onnxruntime takes a window that reaches beyond the end, and leaves out what is not there, as where
small pictures go through a network of many halvings. OpenVINO refuses it.
"""

import onnx_ir as ir

_POOLS = frozenset({"AveragePool", "MaxPool"})


def shrink_windows(model: ir.Model) -> bool:
    """Make windows of pools without padding as large as what they read, in place.

    A window that is larger by its stride or more gives nothing; such a one is left.

    Returns:
        Whether one was larger.
    """
    shrunk = False
    for node in model.graph.all_nodes():
        if node.op_type not in _POOLS or _is_spread(node):
            continue
        window = node.attributes.get_ints("kernel_shape")
        shape = node.inputs[0].shape if node.inputs[0] is not None else None
        if window is None or shape is None:
            continue
        strides = node.attributes.get_ints("strides") or [1] * len(window)
        sizes = list(shape)[-len(window) :]
        fitting = [
            size if isinstance(size, int) and 0 < length - size < stride else length
            for length, size, stride in zip(window, sizes, strides, strict=True)
        ]
        if fitting != list(window):
            node.attributes["kernel_shape"] = ir.AttrInt64s("kernel_shape", fitting)
            shrunk = True
    return shrunk


def _is_spread(node: ir.Node) -> bool:
    """Return whether a window has holes, or begins or ends in a padding."""
    padded = any(node.attributes.get_ints("pads") or ())
    holes = any(step > 1 for step in node.attributes.get_ints("dilations") or ())
    same = node.attributes.get_string("auto_pad", "NOTSET").startswith("SAME")
    return padded or holes or same
