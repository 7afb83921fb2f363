"""Limits are checked when built."""

import dataclasses

import pytest

from grata_monai.core.limits import Limits


def test_defaults_hold_a_large_series():
    limits = Limits()
    assert limits.pixel_budget_bytes == 2 * 2**30
    assert limits.pixel_budget_bytes > 512 * 512 * 2000 * 4


def test_limits_are_immutable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Limits().seconds = 1  # type: ignore[misc]


@pytest.mark.parametrize("name", ["pixel_budget_bytes", "memory_bytes", "header_bytes", "seconds"])
@pytest.mark.parametrize("value", [0, -1])
def test_a_limit_of_nothing_is_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be finite and above 0, got {value}"):
        Limits(**{name: value})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_time_that_never_ends_is_refused(value):
    with pytest.raises(ValueError, match="seconds must be finite and above 0"):
        Limits(seconds=value)


@pytest.mark.parametrize("value", ["1", None, True, 1.5])
def test_bytes_are_whole_numbers(value):
    with pytest.raises(TypeError, match="header_bytes"):
        Limits(header_bytes=value)


def test_memory_that_python_itself_would_exceed_is_refused():
    with pytest.raises(ValueError, match="memory_bytes must be at least 268435456, got 1000"):
        Limits(memory_bytes=1000)
