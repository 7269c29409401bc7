"""What the demonstration shows is what it says."""

import numpy as np
import pytest

from planish.demo import receiver, text_lines


def test_the_same_seed_draws_the_same_lines() -> None:
    first, again, other = (text_lines.draw(4, seed) for seed in (0, 0, 1))
    assert first.images.shape == (4, 3, 48, 320)
    assert np.array_equal(first.images, again.images)
    assert first.texts == again.texts
    assert first.texts != other.texts


def test_the_trained_model_reads_most_of_what_is_written() -> None:
    lines = text_lines.draw(8, seed=3)
    read = text_lines.read(text_lines.model_path(), lines.images)
    assert text_lines.share_read_correctly(read, lines.texts) > 0.9


@pytest.mark.parametrize(
    ("read", "share"), [("hello", 1.0), ("hallo", 0.8), ("hell", 0.8), ("helllo", 0.8), ("", 0.0)]
)
def test_a_missing_a_wrong_and_an_extra_character_are_one_error_each(
    read: str, share: float
) -> None:
    assert text_lines.share_read_correctly([read], ["hello"]) == pytest.approx(share)


def test_the_receiver_takes_no_message_with_a_bad_signature() -> None:
    with receiver.receiving() as hook:
        hook.secret = "whsec_" + "A" * 32
        assert not hook.take(b"{}", {"webhook-id": "1", "webhook-timestamp": "1"})
        with pytest.raises(TimeoutError, match="no signed webhook"):
            hook.wait(0.01)
