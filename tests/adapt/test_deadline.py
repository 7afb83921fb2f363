"""The time limit: counted by a clock of the test's own, never by the machine's."""

import pytest

from grata_monai.adapt.deadline import Deadline
from grata_monai.core.errors import AdaptationError


def test_work_goes_on_until_the_time_is_over():
    ticks = iter([100.0, 104.9, 105.0, 105.1])
    deadline = Deadline.start(5.0, lambda: next(ticks))
    deadline.check()
    deadline.check()
    with pytest.raises(AdaptationError, match=r"must end within time_limit_s, 5 s.*Allow more"):
        deadline.check()


def test_without_a_limit_the_clock_does_not_matter():
    ticks = iter([0.0, 1e9])
    Deadline.start(None, lambda: next(ticks)).check()


def test_the_case_may_end_before_its_adaptation_does():
    ticks = iter([0.0, 1.0])
    case = Deadline(3.0, 0.0, lambda: 3.5, rule="a case must end within case_seconds")
    with pytest.raises(AdaptationError, match=r"must end within case_seconds, 3 s, it did not"):
        Deadline.start(5.0, lambda: next(ticks), case).check()


def test_what_was_read_before_counts_for_the_case():
    Deadline.of_case(60.0, elapsed_s=1.0).check()
    with pytest.raises(AdaptationError, match="a case must end within case_seconds, 60 s"):
        Deadline.of_case(60.0, elapsed_s=61.0).check()
