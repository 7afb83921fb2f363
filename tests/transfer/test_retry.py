"""Waits grow, jitter and end; only what passes by itself is tried again."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grata_monai.core.errors import TransferError
from grata_monai.transfer.retry import Retry, TransientError


def failing(times, error):
    """An action that fails so often, then returns how often it was called."""
    calls = []

    def action():
        calls.append(1)
        if len(calls) <= times:
            raise error
        return len(calls)

    return action


def test_what_passes_at_once_waits_never(retry, waits):
    assert retry.run(failing(0, TransientError("busy"))) == 1
    assert waits == []


def test_waits_double(retry, waits):
    assert retry.run(failing(2, TransientError("busy"))) == 3
    assert waits == [1.0, 2.0]


def test_after_the_last_attempt_the_failure_is_final(retry, waits):
    with pytest.raises(TransferError, match=r"busy\. Tried 3 time\(s\); send or fetch") as caught:
        retry.run(failing(3, TransientError("busy.")))
    assert not isinstance(caught.value, TransientError)
    assert waits == [1.0, 2.0]


def test_a_permanent_failure_is_not_tried_again(retry, waits):
    with pytest.raises(TransferError, match=r"^refused$"):
        retry.run(failing(1, TransferError("refused")))
    assert waits == []


def test_a_peer_that_asks_to_wait_is_waited_for(retry, waits):
    retry.run(failing(1, TransientError("busy", wait_seconds=7)))
    retry.run(failing(1, TransientError("busy", wait_seconds=1e9)))
    assert waits == [7, 60.0]


def test_each_wait_is_logged(retry, caplog):
    with caplog.at_level(logging.WARNING, logger="grata_monai"):
        retry.run(failing(1, TransientError("peer is busy.")))
    assert caplog.messages == ["peer is busy. Trying again in 1.0 s."]


@given(st.integers(1, 10**6), st.floats(0, 1, exclude_max=True), st.floats(0, 1e12))
def test_a_wait_has_its_bounds(attempt, drawn, asked):
    retry = Retry(draw=lambda: drawn)
    longest = min(2.0 ** min(attempt - 1, 10), 60.0)
    assert longest / 2 <= retry.delay(attempt) <= longest
    assert min(asked, 60.0) <= retry.delay(attempt, asked) <= 60.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attempts": 0}, "attempts must be at least 1, got 0"),
        ({"attempts": True}, "attempts must be a whole number, got True"),
        ({"first_seconds": -1}, "first_seconds must be at least 0"),
        ({"first_seconds": 61}, "at most largest_seconds, got 61 and 60.0"),
        ({"largest_seconds": float("inf")}, "at most largest_seconds"),
        ({"connect_seconds": 0}, "connect_seconds must be finite and above 0, got 0"),
        ({"answer_seconds": float("nan")}, "answer_seconds must be finite and above 0, got nan"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises((ValueError, TypeError), match=message):
        Retry(**settings)
