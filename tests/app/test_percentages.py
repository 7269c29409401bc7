"""Shares as people write them."""

import pytest

from app.domain.percentages import share


@pytest.mark.parametrize(
    ("written", "read"),
    [("0.05", 0.05), ("5%", 0.05), ("5 %", 0.05), (" 0.5 % ", 0.005), ("0", 0), ("1e-2", 0.01)],
)
def test_a_share_is_read_as_a_fraction_or_in_percent(written: str, read: float) -> None:
    assert share(written) == read


@pytest.mark.parametrize("written", ["0,05", "one percent", "%", "", "nan", "inf %", "5 %%"])
def test_what_is_no_share_is_answered_with_how_to_write_one(written: str) -> None:
    with pytest.raises(ValueError, match=r"write 0\.01, or 1 %"):
        share(written)
