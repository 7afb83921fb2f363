import csv
import math
from dataclasses import replace

import pytest
from PIL import Image

from grata_monai.experiments.compare.pictures import draw_extremes, find_extremes
from grata_monai.experiments.compare.plots import plot_pairs, plot_risk
from grata_monai.experiments.compare.report import write_report
from grata_monai.experiments.harness.progress import describe_forecast
from grata_monai.experiments.harness.run import Row
from grata_monai.methods.registry import make_systems

pytestmark = pytest.mark.slow

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


def test_a_gain_of_0_stands_with_its_reason(rows, make_rows, tmp_path):
    still = make_rows("still", SOURCE, change=3e-6, relabelled=0.0)
    path = write_report([*rows, *still], tmp_path)
    why = (
        "0: no probability moves by more than 3e-06, at most 0 voxels of a case change their label"
    )
    assert f"| 0.750 | {why} |" in path.read_text()
    assert f"<td>{why}</td>" in (tmp_path / "report.html").read_text()


def test_html_shows_the_same_and_escapes(rows, tmp_path):
    write_report(rows, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "<td>better</td>\n<td>4</td>\n<td>0.762</td>" in page
    assert "no &lt;head&gt;" in page
    assert "no <head>" not in page
    assert "<title>Comparison</title>" in page
    assert page.count('<img src="data:image/png;base64,') == 2, "pictures travel with the page"
    assert "Research use only" in page


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


def test_pairs_are_shown_as_near_as_the_data_allow(rows, tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    shown = []
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *_, **__: shown.extend(self.axes[0].get_xlim())
    )
    plot_pairs(rows, tmp_path / "pairs.png")
    low, high = shown
    assert 0.5 < low < 0.60
    assert 0.90 < high < 1.0


def test_further_pictures_stand_in_the_report_with_their_caption(rows, tmp_path):
    text = write_report(rows, tmp_path, pictures={"best.png": "Best case of x: y, +0.100 Dice"})
    assert "![Best case of x: y, +0.100 Dice](best.png)\n\nBest case" in text.read_text()


def test_the_best_and_the_worst_case_are_those_of_the_method_that_gains_most(make_rows):
    systems = make_systems(["mirror", "n4", "tent"])  # of which tent goes from case to case
    rows = [
        *make_rows("source", SOURCE),
        *make_rows("mirror", BETTER),
        *make_rows("n4", SOURCE),
        *make_rows("tent", [1.0, 1.0, 1.0, 1.0]),
    ]
    found = find_extremes(rows, systems)
    assert {kind: (row.method, row.case) for kind, (row, _) in found.items()} == {
        "best": ("mirror", "case0"),
        "worst": ("mirror", "case2"),
    }
    assert found["worst"][1] == pytest.approx(-0.03)
    assert find_extremes(rows[:1] + rows[4:5], systems) == {}


def test_extremes_are_drawn_from_the_cases_themselves(bench, cases, make_rows, tmp_path):
    systems = make_systems(["mirror"])
    names = [case["case"] for case in cases]
    rows = [
        replace(row, case=names[i])
        for method, scores in (("source", [0.5, 0.5]), ("mirror", [0.6, 0.4]))
        for i, row in enumerate(make_rows(method, scores))
    ]
    captions = draw_extremes(rows, cases, systems, bench, tmp_path)
    assert captions == {
        "best.png": f"Best case of mirror: {names[0]}, +0.100 Dice",
        "worst.png": f"Worst case of mirror: {names[1]}, -0.100 Dice",
    }
    for name in captions:
        with Image.open(tmp_path / name) as picture:
            assert len(picture.convert("RGB").getcolors(2**24)) > 50


def test_a_forecast_is_the_first_case_times_the_others(make_rows):
    rows = [
        *make_rows("source", [0.5], seconds=30.0),
        *make_rows("tent", [0.5], seconds=600.0),
        Row("ttt", "case0", "", refusal="no head"),
    ]
    assert describe_forecast(rows, cases=11, workers=2).splitlines() == [
        "tent: 10 min a case",
        "source: 30 s a case",
        "about 52 min for the other 10 case(s)",
    ]
    assert describe_forecast(rows, cases=101).endswith("about 17.5 h for the other 100 case(s)")


def test_cosines_and_agreement_are_drawn_where_a_method_has_them(rows, make_rows, tmp_path):
    plain = write_report(rows, tmp_path / "plain").read_text()
    assert "cosines.png" not in plain
    assert not (tmp_path / "plain" / "risk.png").exists()
    guarded = [
        replace(row, method="guarded", cosine=0.1 * i, agreement=0.9 if i else float("nan"))
        for i, row in enumerate(make_rows("better", BETTER))
    ]
    text = write_report([*rows, *guarded], tmp_path).read_text()
    for name in ("cosines.png", "risk.png"):
        assert f"![{name}]({name})" in text
        with Image.open(tmp_path / name) as picture:
            assert len(picture.convert("RGB").getcolors(2**24)) > 10


def test_few_cases_have_neither_a_p_value_nor_a_curve(make_rows, tmp_path):
    for count in (2, 5):
        rows = make_rows("source", [0.5, 0.6, 0.7, 0.8, 0.9][:count])
        rows += [replace(row, method="g", dice=row.dice + 0.1, agreement=0.9) for row in rows]
        write_report(rows, tmp_path / str(count))
        assert (tmp_path / str(count) / "risk.png").exists() == (count == 5)
        with (tmp_path / str(count) / "summary.csv").open() as file:
            assert {row["p_value"] for row in csv.DictReader(file)} == {"nan"}


def test_risk_is_the_mean_loss_of_the_cases_that_agree_most(make_rows, tmp_path, monkeypatch):
    from matplotlib.axes import Axes

    lines = []
    monkeypatch.setattr(Axes, "plot", lambda _, x, y, *__, **___: lines.append((list(x), list(y))))
    source = make_rows("source", SOURCE)
    agreements = (0.9, 0.8, 0.95, 0.7)
    guarded = [
        replace(row, method="g", agreement=a) for row, a in zip(source, agreements, strict=True)
    ]
    plot_risk([*source, *guarded], tmp_path / "risk.png")
    by_agreement, best = lines
    assert by_agreement[0] == [0.25, 0.5, 0.75, 1]
    assert by_agreement[1] == pytest.approx([0.4, 0.3, 0.3, 0.25])  # .4, then .2, .3, .1
    assert best[1] == pytest.approx([0.1, 0.15, 0.2, 0.25])
