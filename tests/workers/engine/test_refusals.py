"""What torch and converters say to their developers is told to users in plain words."""

import pytest

from workers.compression import faults

OPERATORS = {
    "torch.onnx": (
        "No ONNX function found for <OpOverload(op='transformers.grouped_mm_fallback', …)>",
        "transformers.grouped_mm_fallback",
    ),
    "TorchScript": (
        "Exporting the operator 'aten::fft_rfft' to ONNX opset version 20 is not supported.",
        "aten::fft_rfft",
    ),
    "Core ML": ("PyTorch convert function for op '_weight_int4' not implemented.", "_weight_int4"),
    "Core ML, a node": ("Unsupported fx node gru, kind gru.input", "gru"),
    "OpenVINO": ("OpenVINO: No conversion rule found for operations: Binarizer", "Binarizer"),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_the_operator_that_a_converter_does_not_take_is_named(name: str) -> None:
    said, operator = OPERATORS[name]
    error = RuntimeError("Failed to convert the exported program.")
    error.__cause__ = NotImplementedError(said)
    assert faults.refusal(error) == f"it does not take the operator {operator}"


def test_a_number_that_decides_what_runs_is_no_operator() -> None:
    error = RuntimeError("Lowering not found: aten._local_scalar_dense.default")
    assert "depends on values" in faults.refusal(error)


def test_what_is_not_understood_is_in_the_log_alone(capfd: pytest.CaptureFixture[str]) -> None:
    error = ValueError("/usr/lib/python3/site-packages/x.py:12 consider draft_export()")
    faults.note_node(error, "'turn' (If)")
    assert "fails at node 'turn' (If)" in faults.refusal(error)
    assert "draft_export" not in faults.refusal(error)
    assert "draft_export" in capfd.readouterr().err
