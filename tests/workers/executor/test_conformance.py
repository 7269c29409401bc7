"""The executor keeps to the ONNX specification."""

import warnings
from collections import Counter

from tests.workers.executor.conformance import LEAST, cases, run


def test_onnx_backend_node_tests_pass() -> None:
    """At least 97 % of those that count, and every operator of ordinary networks in whole."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        verdicts = [run(case) for case in cases()]
    assert len(verdicts) > 1700
    failed = {verdict.case: verdict.reason for verdict in verdicts if verdict.reason is not None}
    assert len(verdicts) - len(failed) >= LEAST * len(verdicts), failed
    operators = Counter(v.operator for v in verdicts if v.reason is not None)
    assert set(operators) <= {"Attention", "Scan"}, failed
