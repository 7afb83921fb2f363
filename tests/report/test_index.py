"""The index lists the worst case first, and a case's text cannot become a page's code."""

import json
import logging
import re

from reported import AMBER, GREEN, RED, report_case, with_shift

from grata_monai.report.index import render_index, write_index
from grata_monai.report.rows import Row, make_row, read_rows, refuse, sort_worst_first, write_row


def data_of(page: str):
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])


def test_a_row_says_what_a_reader_must_know():
    row = make_row(report_case("a", text=with_shift(AMBER, 12.0), group="north"))
    assert (row.case, row.light, row.kept, row.group) == ("a", "amber", "views", "north")
    assert (row.agreement, row.percentile) == (0.7, 12.0)
    assert row.says.startswith("Look closely before use.")
    assert row.change > 0, "the source missed a slice"


def test_the_worst_come_first_and_among_equals_the_least_agreed():
    rows = [
        make_row(report_case(name, record))
        for name, record in (("g", GREEN), ("a", AMBER), ("r", RED))
    ]
    rows += [refuse("x", "spacing must be above 0."), Row("b", "amber", "", agreement=0.6)]
    assert [row.case for row in sort_worst_first(rows)] == ["x", "r", "b", "a", "g"]


def test_a_run_s_rows_are_read_back_and_others_passed_over(tmp_path, caplog):
    folder = tmp_path / "report"
    folder.mkdir()
    row = Row("a", "green", "fine", agreement=0.9)
    write_row(row, folder)
    (folder / "torn.json").write_text('{"case": ')
    with caplog.at_level(logging.WARNING):
        assert read_rows(tmp_path) == [row]
    assert "torn.json is no row" in caplog.text


def test_the_index_holds_every_row_as_data(tmp_path):
    (tmp_path / "report").mkdir()
    write_row(Row("a", "green", "fine"), tmp_path / "report")
    content = data_of(write_index(tmp_path).read_text())
    assert content["folder"] == "report"
    assert [row["case"] for row in content["rows"]] == ["a"]


def test_names_and_messages_are_escaped():
    evil = "</script><script>alert(1)</script>"
    page = render_index([refuse(evil, evil, group=evil)])
    assert "<script>alert" not in page
    assert data_of(page)["rows"][0]["says"] == evil
