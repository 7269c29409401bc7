"""Files of other frameworks. Keras is told its backend before anything imports it."""

import os

os.environ["KERAS_BACKEND"] = "torch"
