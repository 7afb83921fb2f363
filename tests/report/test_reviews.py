"""The log of reviews only grows, and says so when it did not."""

import json
from dataclasses import replace

import pytest
from crash import kill_at_byte

from grata_monai.core.errors import OutputError
from grata_monai.report.reviews import append_review, make_review, read_reviews
from grata_monai.report.rows import Row

ROWS = {"a": Row("a", "amber", "look", kept="views", agreement=0.7, volume=40.0, group="north")}
SAID = {"case": "a", "decision": "reject", "reader": " Ada ", "digest": "1" * 64, "remark": ""}


def test_a_review_joins_what_was_said_and_what_is_known():
    review = make_review(SAID, ROWS)
    assert (review.reader, review.decision, review.remark) == ("Ada", "reject", "")
    assert (review.light, review.agreement, review.volume) == ("amber", 0.7, 40.0)
    assert review.time.endswith("+00:00")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"case": "b"}, "case must be one of this run"),
        ({"case": ["a"]}, "case must be a text"),
        ({"decision": "approve"}, "decision must be among accept, edit, reject"),
        ({"reader": "  "}, "reader must be a text, not empty"),
        ({"reader": "x" * 81}, "reader must have at most 80 characters"),
        ({"digest": None}, "digest must be a text"),
    ],
)
def test_what_no_page_sends_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        make_review({**SAID, **change}, ROWS)
    with pytest.raises(ValueError, match="a review must be a JSON object, got list"):
        make_review([], ROWS)


def test_reviews_are_read_back_in_order_each_chained_to_the_last(tmp_path):
    log = tmp_path / "reviews.jsonl"
    assert read_reviews(log) == []
    for reader in ("Ada", "Bob", "Cleo"):
        append_review(make_review({**SAID, "reader": reader}, ROWS), log)
    reviews = read_reviews(log)
    assert [review.reader for review in reviews] == ["Ada", "Bob", "Cleo"]
    assert reviews[0].previous == "0" * 64
    assert len({review.previous for review in reviews}) == 3


@pytest.mark.parametrize("where", [0, 1])
def test_a_line_changed_or_taken_out_is_found(where, tmp_path):
    log = tmp_path / "reviews.jsonl"
    for _ in range(3):
        append_review(make_review(SAID, ROWS), log)
    lines = log.read_text().splitlines()
    changed = json.dumps({**json.loads(lines[where]), "decision": "accept"}, sort_keys=True)
    for kept in (
        lines[:where] + lines[where + 1 :],
        [*lines[:where], changed, *lines[where + 1 :]],
    ):
        log.write_text("\n".join(kept) + "\n")
        with pytest.raises(ValueError, match=r"reviews\.jsonl must only grow"):
            read_reviews(log)
    log.write_text("torn\n")
    with pytest.raises(ValueError, match="line 1 is none"):
        read_reviews(log)


def test_a_program_killed_while_it_writes_loses_no_review_and_breaks_no_chain(tmp_path):
    log, other = tmp_path / "reviews.jsonl", make_review({**SAID, "reader": "Bob"}, ROWS)
    append_review(make_review(SAID, ROWS), log)
    whole = log.read_bytes()
    for extra in (1, 30, len(whole) - 1):
        assert kill_at_byte(len(whole) + extra, lambda: append_review(other, log))
        assert len(log.read_bytes()) == len(whole) + extra
        assert [review.reader for review in read_reviews(log)] == ["Ada"]
        append_review(other, log)
        assert [review.reader for review in read_reviews(log)] == ["Ada", "Bob"]
        log.write_bytes(whole)


def test_a_full_disk_leaves_the_log_as_it_was(tmp_path, monkeypatch):
    log = tmp_path / "reviews.jsonl"
    append_review(make_review(SAID, ROWS), log)
    whole = log.read_bytes()

    def refuse(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(OutputError, match="No space left on device"):
        append_review(make_review(SAID, ROWS), log)
    assert log.read_bytes() == whole


def test_a_log_that_cannot_be_written_is_an_error(tmp_path):
    with pytest.raises(OutputError, match="the log of reviews must be writable"):
        append_review(replace(make_review(SAID, ROWS)), tmp_path)
