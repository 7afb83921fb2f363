"""The handler reports every case and every refusal of a run, and loses no case over a report."""

import logging

import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from reported import report_case

from grata_monai.core.failures import CaseFailure, report_failure
from grata_monai.read.dicom.rejection import Reason, Rejection
from grata_monai.report import ReportHandler
from grata_monai.report.rows import read_rows


@pytest.fixture
def item():
    """What the bundle's postprocessing gives for a case."""
    case = report_case()
    affine = torch.as_tensor(case.affine_ras)
    return {
        "case": "one",
        "centre": "north",
        "made_from": "5" * 64,
        "grata": case.text,
        "original": MetaTensor(torch.as_tensor(case.voxels)[None], affine=affine),
        "pred": MetaTensor(torch.as_tensor(case.kept)[None], affine=affine),
        "maps": torch.stack([torch.as_tensor(case.source), torch.as_tensor(case.marked)]),
    }


def run(item, folder, **settings):
    def step(engine, _):
        report_failure(engine, CaseFailure("two", "GeometryError", "spacing must be above 0."))
        made = {"pred", "grata", "maps"}  # MONAI keeps apart what was read and what was made
        engine.state.batch = [{key: item[key] for key in item.keys() - made}]
        return [{key: item[key] for key in made}]

    engine = Engine(step)
    ReportHandler(folder, names={"1": "prostate"}, **settings).attach(engine)
    engine.run([0])


def test_each_case_has_its_files_and_each_refusal_its_row(item, tmp_path):
    refusal = Rejection("three", Reason.LOCALIZER, "it is a localizer.", "Send another.", 1)
    run(item, tmp_path, refusals=[refusal])
    names = sorted(path.name for path in (tmp_path / "report").iterdir())
    assert names == [
        "one.html",
        "one.json",
        "one.png",
        "one.thumb.png",
        "three.html",
        "three.json",
        "two.html",
        "two.json",
    ]
    rows = {row.case: row for row in read_rows(tmp_path)}
    assert (rows["one"].light, rows["one"].group) == ("green", "north")
    assert rows["one"].made_from == "5" * 64
    assert rows["two"].says == "spacing must be above 0."
    assert rows["three"].says == "it is a localizer. Send another."
    page = (tmp_path / "report/three.html").read_text()
    assert "There is no mask of this case" in page
    assert "It is a localizer. Send another." in page
    assert (tmp_path / "index.html").is_file()


def test_a_report_that_fails_is_a_warning(item, tmp_path, caplog):
    del item["original"]
    with caplog.at_level(logging.WARNING):
        run(item, tmp_path)
    assert "one: no report could be made, its mask is there" in caplog.text
    assert [row.case for row in read_rows(tmp_path)] == ["two"]


def test_a_folder_that_cannot_be_written_is_a_warning_too(item, tmp_path, caplog):
    (tmp_path / "report").write_text("in the way")
    with caplog.at_level(logging.WARNING):
        run(item, tmp_path)
    assert "no index of reports could be made" in caplog.text
