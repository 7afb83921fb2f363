"""Scores of masks: expected values from counting voxels and measuring boxes by hand."""

import csv
import math
import os
from io import StringIO
from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from rich.console import Console

from grata_monai.core.errors import GeometryError, OutputError
from grata_monai.experiments.evaluate import (
    CaseScore,
    EvaluationHandler,
    score_case,
    summarise_scores,
)

SHAPE = (1, 16, 16, 8)
SPACING = (0.5, 1.0, 3.0)  # mm


def box(x: slice, y: slice, z: slice, value: int = 1) -> torch.Tensor:
    label_map = torch.zeros(SHAPE, dtype=torch.int32)
    label_map[0, x, y, z] = value
    return label_map


LABEL = box(slice(4, 8), slice(4, 8), slice(2, 6))
EMPTY = torch.zeros(SHAPE, dtype=torch.int32)


def score(source: torch.Tensor, adapted: torch.Tensor, label: torch.Tensor = LABEL) -> CaseScore:
    return score_case(
        case="a", centre="b", source=source, adapted=adapted, label=label, spacing=SPACING
    )


def case_score(case: str, centre: str, **scores: float) -> CaseScore:
    equal = {"source_dice": 0.8, "adapted_dice": 0.8, "source_hd95": 5.0, "adapted_hd95": 5.0}
    return CaseScore(case, centre, **{**equal, **scores})


def test_dice_counts_voxels():
    half = box(slice(4, 8), slice(4, 8), slice(2, 4))  # 32 of 64 voxels, all of them inside
    found = score(half, LABEL)
    assert found.source_dice == pytest.approx(2 * 32 / (32 + 64))
    assert found.adapted_dice == 1.0
    assert (found.case, found.centre) == ("a", "b")


@pytest.mark.parametrize(("axis", "shift"), [(1, 3), (2, 2), (3, 1)])
def test_the_distance_of_a_shifted_box_is_in_millimetres(axis, shift):
    moved = torch.roll(LABEL, shift, dims=axis)
    found = score(LABEL, moved)
    assert found.source_hd95 == 0.0
    assert found.adapted_hd95 == pytest.approx(shift * SPACING[axis - 1])


def test_several_labels_count_equally():
    other = box(slice(10, 12), slice(10, 12), slice(2, 4), value=2)
    found = score(LABEL, LABEL + other, label=LABEL + other)
    assert found.source_dice == pytest.approx((1.0 + 0.0) / 2)
    assert found.adapted_dice == 1.0


@pytest.mark.parametrize(("mask", "label"), [(EMPTY, LABEL), (LABEL, EMPTY)])
def test_an_empty_mask_or_label_has_dice_zero_and_no_distance(mask, label):
    found = score(mask, mask, label=label)
    assert found.source_dice == 0.0
    assert math.isnan(found.source_hd95)


def test_nothing_predicted_where_nothing_is_counts_as_right():
    found = score(EMPTY, EMPTY, label=EMPTY)
    assert (found.source_dice, found.source_hd95) == (1.0, 0.0)


def test_masks_of_another_shape_are_refused():
    with pytest.raises(GeometryError, match=r"label of 'a' has \(16, 16, 7\), its image"):
        score(LABEL, LABEL, label=LABEL[..., :7])


def test_the_table_has_means_and_counts_per_centre():
    table = summarise_scores(
        [
            case_score("b", "south", source_dice=0.6, adapted_dice=0.7, adapted_hd95=math.nan),
            case_score("a", "south", source_dice=0.9, adapted_dice=0.85, source_hd95=10.0),
            case_score("c", "south", source_dice=0.6, adapted_dice=0.61),
            case_score("d", "north"),
        ]
    )
    assert table.splitlines()[2:] == [
        "| north | 1 | 0.800 | 0.800 | 0 / 0 | 5.0 | 5.0 |",
        "| south | 3 | 0.700 | 0.720 | 1 / 1 | 6.7 | 5.0 (1 undefined) |",
    ]


def test_a_distance_that_is_nowhere_defined_is_a_dash():
    table = summarise_scores([case_score("a", "", adapted_hd95=math.nan)])
    assert table.splitlines()[2] == "| - | 1 | 0.800 | 0.800 | 0 / 0 | 5.0 | - (1 undefined) |"


def test_no_scores_give_a_table_without_rows():
    assert len(summarise_scores([]).splitlines()) == 2


# ------------------------------------------------------------------------------- the handler


def on_grid(label_map: torch.Tensor, *, moved: float = 0.0) -> MetaTensor:
    affine = torch.diag(torch.tensor([*SPACING, 1.0]))
    affine[0, 3] += moved
    return MetaTensor(label_map, affine=affine)


def run_handler(folder, items: list[dict]) -> SimpleNamespace:
    text = StringIO()
    screen = Console(file=text, width=120)

    def step(engine, item):
        engine.state.batch, engine.state.output = [item], [item]
        return engine.state.output

    engine = Engine(step)
    EvaluationHandler(str(folder), console=screen).attach(engine)
    return SimpleNamespace(state=engine.run(items), text=text.getvalue())


def test_the_handler_writes_and_prints_what_it_measured(tmp_path):
    item = {"case": "a", "centre": "south", "source": on_grid(EMPTY), "pred": on_grid(LABEL)}
    run = run_handler(tmp_path, [{**item, "label": on_grid(LABEL)}])
    (row,) = csv.DictReader((tmp_path / "evaluation.csv").read_text().splitlines())
    assert row == {
        "case": "a",
        "centre": "south",
        "source_dice": "0.0",
        "adapted_dice": "1.0",
        "source_hd95": "nan",
        "adapted_hd95": "0.0",
    }
    expected = "| south | 1 | 0.000 | 1.000 | 0 / 1 | - (1 undefined) | 0.0 |\n"
    assert (tmp_path / "evaluation.md").read_text().endswith(expected)
    assert expected in run.text


def test_a_name_that_is_no_text_does_not_lose_the_tables(tmp_path):
    odd = os.fsdecode(b"M\xfcller")
    item = {"case": odd, "centre": odd, "source": on_grid(EMPTY), "pred": on_grid(LABEL)}
    run = run_handler(tmp_path, [{**item, "label": on_grid(LABEL)}])
    (row,) = csv.DictReader((tmp_path / "evaluation.csv").read_text("utf-8").splitlines())
    assert row["case"] == row["centre"] == r"M\udcfcller"
    assert r"| M\udcfcller | 1 |" in (tmp_path / "evaluation.md").read_text("utf-8")
    assert r"| M\udcfcller | 1 |" in run.text


@pytest.mark.parametrize("label", [on_grid(LABEL, moved=0.3), on_grid(LABEL[..., :7])])
def test_a_label_on_another_grid_is_a_failure_and_no_score(label, tmp_path):
    item = {"case": "a", "source": on_grid(LABEL), "pred": on_grid(LABEL), "label": label}
    run = run_handler(tmp_path, [item])
    assert run.state.scores == []
    assert [(f.case, f.reason) for f in run.state.failures] == [("a", "GeometryError")]


def test_a_label_is_off_only_beyond_half_a_voxel(tmp_path):
    item = {"case": "a", "source": on_grid(LABEL), "pred": on_grid(LABEL)}
    run = run_handler(tmp_path, [{**item, "label": on_grid(LABEL, moved=0.2)}])
    assert len(run.state.scores) == 1


def test_an_output_folder_that_cannot_be_is_refused_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="output folder must be writable"):
        EvaluationHandler(str(tmp_path / "file" / "out"))
