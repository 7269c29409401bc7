"""Files of other frameworks. What they need is set before anything imports them."""

import os

from workers.compression.intake.sources.timm_networks import define_torchvision_operators

os.environ["KERAS_BACKEND"] = "torch"
define_torchvision_operators()
