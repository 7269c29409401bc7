"""What the chart of a model lets a search expect."""

import pytest

from tests.workers.search.charts import chart
from workers.search.chart import expect


def test_what_a_chart_lets_expect_is_the_cheapest_way_to_save_as_much() -> None:
    found = expect(chart(0.05), "channels", "latency", 0.3, "macs")
    assert found
    assert found.lost == 0.05
    assert found.gain == pytest.approx(0.75), "0.3 of the time for 0.4 of the work"
    timed = expect(chart(0.05), "channels", "latency", 0.3, "latency")
    assert timed
    assert timed.gain == 0.97, "what is counted is what is saved, but a chart is no proof"
    assert expect(chart(0.05), "channels", "size", 0.6, "size") is None
    assert expect(chart(0.05), "rank", "size", 0.1, "size") is None
