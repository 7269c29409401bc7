"""Hands what a Scan reads from around it to its body as states, for OpenVINO.

OpenVINO takes each computed value that a body reads from outside for a state that it begins with,
and misses the output that a state ends with.
"""

import onnx_ir as ir

from workers.compression.graph.editor import Editor, graph_of


def carry_what_is_read(model: ir.Model) -> bool:
    """Make computed values from outside states that stay as they are, in place.

    Constants are left where they are.

    Returns:
        Whether there was any.
    """
    edit, carried = Editor(model), False
    for node in [node for node in model.graph.all_nodes() if node.op_type == "Scan"]:
        if outside := _computed_outside(node):
            _carry(edit, node, outside)
            carried = True
    return carried


def _computed_outside(scan: ir.Node) -> list[ir.Value]:
    """Return the values that a body reads, and which neither it nor an initializer holds."""
    nodes = list(ir.traversal.RecursiveGraphIterator(_body(scan)))
    graphs = {_body(scan), *(graph_of(node) for node in nodes)}
    read = dict.fromkeys(value for node in nodes for value in node.inputs if value is not None)
    return [value for value in read if value.const_value is None and value.graph not in graphs]


def _carry(edit: Editor, scan: ir.Node, outside: list[ir.Value]) -> None:
    body, graph = _body(scan), graph_of(scan)
    states = len(scan.inputs) - scan.attributes["num_scan_inputs"].as_int()
    for place, value in enumerate(outside, start=states):
        begin = ir.Value(name=edit.fresh(f"{value.name}_read"), type=value.type, shape=value.shape)
        end = edit.node("Identity", [begin], f"{begin.name}_again")
        for node in ir.traversal.RecursiveGraphIterator(body):
            for slot, read in enumerate(node.inputs):
                if read is value:
                    node.replace_input_with(slot, begin)
        body.inputs.insert(place, begin)
        body.append(end)
        body.outputs.insert(place, end.outputs[0])
    inputs = [*scan.inputs[:states], *outside, *scan.inputs[states:]]
    ends = [edit.fresh(f"{value.name}_carried") for value in outside]
    wider = ir.node("Scan", inputs, scan.attributes, num_outputs=len(scan.outputs) + len(ends))
    kept = [*wider.outputs[:states], *wider.outputs[states + len(ends) :]]
    for value, name in zip(wider.outputs[states:], ends, strict=False):
        value.name = name
    wider.name = scan.name
    ir.convenience.replace_nodes_and_values(graph, scan, [scan], [wider], scan.outputs, kept)


def _body(scan: ir.Node) -> ir.Graph:
    return scan.attributes["body"].as_graph()
