"""Runs any sub-network of a graph in torch, by masks that are inputs of one graph.

So nothing is built anew for a network, and gradients reach the weights that all of them share.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from workers.compression.executor import Executor
from workers.compression.graph.editor import Editor
from workers.compression.learning.feed import Forward, Outputs
from workers.compression.methods.elastic.networks import Network, Networks


@dataclass(frozen=True)
class Mask:
    """An input by which a value is multiplied: 0 where a network does without it."""

    name: str
    value: str
    axis: int | None
    """The axis of channels; None for the branch of a residual block, as a whole."""
    block: str = ""


def masked(networks: Networks) -> tuple[ir.Model, list[Mask]]:
    """Return a copy of the graph with masks as inputs, and the masks.

    Channels are masked wherever a node sums over them, blocks where the branch ends.
    """
    copy = networks.model.clone()
    edit, nodes = Editor(copy), {str(node.name): node for node in copy.graph}
    masks: dict[tuple[str, int | None], Mask] = {}

    def insert(node: ir.Node, slot: int, axis: int | None, block: str = "") -> None:
        data = node.inputs[slot]
        assert data is not None
        key = (block or str(data.name), axis)
        if key not in masks:
            name = edit.fresh(f"{key[0]}_mask")
            masks[key] = Mask(name, str(data.name), axis, block)
            copy.graph.inputs.append(
                ir.Value(name=name, shape=ir.Shape([]), type=ir.TensorType(ir.DataType.FLOAT))
            )
        mask = next(v for v in copy.graph.inputs if v.name == masks[key].name)
        product = edit.node("Mul", [data, mask], f"{data.name}_masked")
        copy.graph.insert_before(node, product)
        node.replace_input_with(slot, product.outputs[0])

    smallest = networks.smallest
    for block in networks.blocks:
        insert(nodes[block.name], block.branch, None, block.name)
    for site in networks.analysis.sums:
        data = nodes[site.node].inputs[site.slot]
        assert data is not None
        kept = networks.analysis.kept(str(data.name), site.axis, smallest.removed)
        if kept is not None and not kept.all():
            insert(nodes[site.node], site.slot, site.axis)
    return copy, list(masks.values())


@dataclass(frozen=True)
class Masked:
    """A graph with masks in torch."""

    networks: Networks
    masks: list[Mask]
    executor: Executor
    device: str

    def runs(self, network: Network) -> Forward:
        """Return what runs one network on feeds; its masks are made once."""
        masks = {mask.name: self._value(mask, network) for mask in self.masks}

        def run(feeds: Mapping[str, Tensor]) -> Outputs:
            outputs: Outputs = self.executor({**feeds, **masks})
            return outputs

        return run

    def _value(self, mask: Mask, network: Network) -> Tensor:
        if mask.axis is None:
            return torch.tensor(float(mask.block not in network.dropped), device=self.device)
        analysis = self.networks.analysis
        kept = analysis.kept(mask.value, mask.axis, network.removed)
        assert kept is not None, "only what shrinks has a mask"
        shape = [1] * len(analysis.shapes[mask.value])
        shape[mask.axis] = len(kept)
        array = kept.reshape(shape).astype(np.float32)
        return torch.from_numpy(array).to(self.device)
