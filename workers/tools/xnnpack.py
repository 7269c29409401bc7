"""What XNNPACK computes of a program. It is read in ExecuTorch's own Python alone."""

from typing import Any

from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.backends.xnnpack.utils.quant_utils import IS_IMPLICIT_Q_DQ_TAG, is_dequant


class IntegersLeft(Exception):  # noqa: N818 (it is no error)
    """Constants of a program are in integers, and are not the weight of an int8 layer."""

    def __init__(self, constants: set[str]) -> None:
        super().__init__(constants)
        self.constants = constants


class Partitioner(XnnpackPartitioner):  # type: ignore[misc]
    """Leaves no rounding out that belongs to a layer which XNNPACK leaves.

    What rounds for an int8 layer is marked as a part of it, and is no step of its own. XNNPACK
    marks it before it has decided on the layer: if it leaves that, nobody rounds, and the layer
    reads zeros.
    """

    def __init__(self, *, leaves_integers: bool) -> None:
        super().__init__()
        self._leaves_integers = leaves_integers

    def get_matched_nodes_from_configs(self, ep: Any) -> Any:
        """Group the nodes that XNNPACK computes; a layer is in a group with what rounds for it.

        Raises:
            IntegersLeft: there are any, and they are not to be left.
        """
        groups = super().get_matched_nodes_from_configs(ep)
        of_layers = {node for group in groups if len(group) > 1 for node in group}
        constants, left = ep.graph_signature.inputs_to_lifted_tensor_constants, set[str]()
        for node in ep.graph.nodes:
            if node in of_layers:
                continue
            node.meta.pop(IS_IMPLICIT_Q_DQ_TAG, None)
            if is_dequant(node) and node.args[0].name in constants:
                left.add(constants[node.args[0].name])
        if left and not self._leaves_integers:
            raise IntegersLeft(left)
        return groups
