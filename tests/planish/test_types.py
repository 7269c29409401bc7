"""The client's types are made of the service's models, and nothing heavy comes with them."""

import subprocess
import sys

import pytest

from scripts import client_types


def test_the_types_are_made_of_the_services_models() -> None:
    made = client_types.TARGET.read_text()
    assert made == client_types.text(), "run: python -m scripts.client_types"


@pytest.mark.parametrize("module", ["planish", "planish.cli", "planish.demo.receiver"])
def test_what_is_heavy_is_imported_when_it_is_used(module: str) -> None:
    program = (
        f"import sys, {module}\n"
        "print([n for n in ('app', 'workers', 'sqlalchemy', 'numpy', 'torch', 'celery')"
        " if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_every_name_of_the_public_face_is_there() -> None:
    import planish

    assert sorted(planish.__all__) == planish.__all__
    assert all(hasattr(planish, name) for name in planish.__all__)
