import csv
import math

import pytest
from PIL import Image

from grata_monai.compare.report import write_report
from grata_monai.compare.run import Row

SOURCE, BETTER = [0.80, 0.70, 0.60, 0.90], [0.85, 0.72, 0.57, 0.91]


@pytest.fixture
def rows(make_rows):
    refused = [Row("ttt", f"case{i}", "north", refusal="no <head>") for i in range(4)]
    return [*make_rows("source", SOURCE), *make_rows("better", BETTER), *refused]


def test_the_tables_show_every_method_and_group(rows, tmp_path):
    text = write_report(rows, tmp_path, facts={"seed": "0"}).read_text()
    assert "- seed: 0" in text
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## all",
        "## north",
        "## south",
        "## Refused",
    ]
    line = next(line for line in text.splitlines() if line.startswith("| better"))
    assert line.split(" | ")[1:3] == ["4", "0.762"]  # 3.05 / 4
    assert "| ttt | 0 | refused |" in text
    assert "- ttt: no <head>" in text


def test_html_shows_the_same_and_escapes(rows, tmp_path):
    write_report(rows, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "<td>better</td><td>4</td><td>0.762</td>" in page
    assert "no &lt;head&gt;" in page
    assert "no <head>" not in page


def test_csv_holds_every_row_and_summary(rows, tmp_path):
    write_report(rows, tmp_path)
    with (tmp_path / "rows.csv").open() as file:
        read = list(csv.DictReader(file))
    assert [(r["method"], r["case"]) for r in read] == [(r.method, r.case) for r in rows]
    assert float(read[4]["dice"]) == 0.85
    assert math.isnan(float(read[8]["dice"]))
    with (tmp_path / "summary.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 3 + 3 + 2


@pytest.mark.parametrize("name", ["pairs.png", "gains.png"])
def test_plots_are_pictures_with_something_in_them(rows, tmp_path, name):
    write_report(rows, tmp_path)
    with Image.open(tmp_path / name) as picture:
        assert min(picture.size) > 200
        assert len(picture.convert("RGB").getcolors(2**24)) > 10
