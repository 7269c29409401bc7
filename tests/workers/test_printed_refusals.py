"""What native code prints of an operator that it refuses becomes a sentence that names it."""

import pytest

from workers.tools import executorch
from workers.tools.micro import refusal

PRINTED = {
    "no kernel": (
        "Didn't find op for builtin opcode 'GELU'\nFailed to get registration from op code GELU\n",
        "no kernel for the operator GELU. 'litert' runs it",
    ),
    "a kernel that refuses": (
        "Hybrid is not supported.\nNode CONV_2D (number 3f) failed to prepare with status 1\n",
        "the operator CONV_2D (number 3 of the file) refuses it: Hybrid is not supported",
    ),
    "something else": (
        "Failed to allocate resource\n buffer.\n",
        "Failed to allocate resource buf",
    ),
}


@pytest.mark.parametrize("name", PRINTED)
def test_a_refusal_names_the_operator(name: str) -> None:
    printed, words = PRINTED[name]
    assert words in refusal(printed)


def test_nothing_printed_is_nothing_said() -> None:
    assert not refusal("")


def test_what_xnnpack_prints_names_its_operator() -> None:
    printed = "[XNNCompiler.cpp:1262] Failed to create StaticConstantPad node 7 with code: invalid"
    assert "the operator StaticConstantPad" in executorch.refusal(printed)
    assert not executorch.refusal("[method.cpp:128] Init failed")
