"""Once-for-all (Cai et al. 2020): a graph is trained so that smaller graphs can be taken from it.

``networks`` says which there are, ``order`` puts the channels of layers in the order in which they
go, ``masked`` runs any of them, and the two methods train them all and take one.
"""

from workers.compression.methods.elastic.subnet import subnet
from workers.compression.methods.elastic.supernet import supernet

__all__ = ["subnet", "supernet"]
