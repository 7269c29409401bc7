"""What is trained once for all tests of the engine that a process runs."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.workers.digits import Trained


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> "Trained":
    """A small residual network that is trained on digits."""
    from tests.workers import digits

    return digits.train(tmp_path_factory.mktemp("trained"))
