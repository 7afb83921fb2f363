"""A rerun does what is not done, does again what was made from something else, and says how far."""

import json
import logging
import os

import pytest
from ignite.engine import Engine
from monai.inferers import SimpleInferer
from outputs import read_values, write_pair, write_volume
from torch import nn

from grata_monai.adapt.method import OnlineMemory
from grata_monai.core.failures import CaseFailure, report_failure
from grata_monai.inferer import GraTaInferer
from grata_monai.write.resume import list_pending, run_cases


@pytest.fixture
def ask(tmp_path):
    """``ask(recipe="source", …)``: what is pending of the images a and b; ``out`` are outputs."""
    for name in "ab":
        (tmp_path / f"{name}.nii").write_text(name)
    cases = [{"image": str(tmp_path / f"{name}.nii"), "case": name} for name in "ab"]
    network = nn.Conv3d(1, 1, 1)

    def ask(*, recipe="source", cases=cases, network=network, **changes):
        inferer = GraTaInferer(SimpleInferer(), recipe)
        settings = {"output_dir": tmp_path / "out", "inferer": inferer, "network": network}
        return list_pending(cases, **{**settings, **changes})

    return ask


@pytest.fixture
def done(tmp_path, ask):
    """The case a is done, and b is not."""
    write_pair(tmp_path / "out", "a", made_from=ask()[0]["made_from"])
    return tmp_path / "out"


def names(pending):
    return [case["case"] for case in pending]


def test_a_finished_case_is_skipped_and_said(ask, done, caplog):
    with caplog.at_level(logging.INFO, logger="grata_monai"):
        assert names(ask()) == ["b"]
    assert "1 of 2 cases were done already" in caplog.text
    assert names(ask(again=True)) == ["a", "b"]
    assert names(ask(output_dir=str(done.parent / "elsewhere"))) == ["a", "b"]


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: {"recipe": "paper"},
        lambda folder: {"network": nn.Conv3d(1, 1, 1)},
        lambda folder: {"settings": "spacing"},
        lambda folder: (folder.parent / "a.nii").write_text("changed") and {},
        lambda folder: (folder.parent / "a.nii").unlink() or {},
        lambda folder: (folder / "a_seg.nii.gz").unlink() or {},
        lambda folder: (folder / "a_seg.nii.gz").write_text("damaged") and {},
        lambda folder: write_pair(folder, "a", value=2) or {},
    ],
)
def test_a_case_is_done_again_if_anything_that_decides_it_differs(ask, done, change):
    assert names(ask(**change(done))) == ["a", "b"]


@pytest.mark.parametrize("asked", [{"has_reports": True}, {"notes": ["report/{case}.json"]}])
def test_a_case_whose_page_is_missing_or_of_another_mask_is_done_again(ask, done, asked):
    assert names(ask(**asked)) == ["a", "b"]
    (done / "report").mkdir()
    line = done / "report" / "a.json"
    line.write_text(json.dumps({"made_from": ask()[0]["made_from"]}))
    assert names(ask(**asked)) == ["a", "b"]
    line.write_text(json.dumps({"made_from": ask(again=True)[0]["made_from"]}))
    assert names(ask(**asked)) == ["b"]


def test_a_record_beside_an_older_mask_is_not_finished(ask, done):
    newer = (done / "a_record.json").read_bytes()
    write_pair(done, "a", value=2)
    (done / "a_record.json").write_bytes(newer)
    assert names(ask()) == ["a", "b"]


def test_weights_that_go_on_from_case_to_case_need_every_case(ask, done):
    inferer = GraTaInferer(
        SimpleInferer(), {"base": "paper", "memory": "online"}, memory=OnlineMemory()
    )
    assert names(ask(inferer=inferer)) == ["a", "b"]


@pytest.mark.parametrize(
    ("header", "text"),
    [("c.mhd", "NDims = 3\nElementDataFile = c.raw"), ("c.nrrd", "data file: c.raw\n")],
)
def test_voxels_beside_their_header_count(tmp_path, ask, header, text):
    (tmp_path / header).write_text(text)
    (tmp_path / "c.raw").write_text("voxels")
    cases = [{"image": str(tmp_path / header), "case": "c"}]
    write_pair(tmp_path / "out", "c", made_from=ask(cases=cases)[0]["made_from"])
    assert names(ask(cases=cases)) == []
    (tmp_path / "c.raw").write_text("others")
    assert names(ask(cases=cases)) == ["c"]
    (tmp_path / header).write_text(text.replace("c.raw", "../c.raw"))
    assert ask(cases=cases)[0]["made_from"] == ""


def test_a_dicom_volume_is_known_by_all_its_files(tmp_path, ask, make_volume):
    volume = make_volume()
    name, file = volume.name, volume.frames[-1].file
    asked = {"cases": [{"image": name, "case": name}], "volumes": [volume]}
    write_volume(tmp_path / "out", name, made_from=ask(**asked)[0]["made_from"])
    assert names(ask(**asked)) == []
    content = file.read_bytes()
    file.write_bytes(content[:-1] + b"x")
    assert names(ask(**asked)) == [name]
    file.write_bytes(content)
    assert names(ask(**asked)) == []
    (tmp_path / "out" / name / "segmentation.dcm").unlink()
    assert names(ask(**asked)) == [name]


def test_what_a_killed_run_had_committed_is_done(tmp_path, ask, done):
    ready = done / ".grata-0123.ready"
    ready.mkdir()
    for name in ("a_seg.nii.gz", "a_record.json"):
        os.rename(done / name, ready / name)
    (done / ".grata-4567.nii.gz").write_text("half")
    assert names(ask()) == ["b"]
    assert {*os.listdir(done)} == {"a_seg.nii.gz", "a_record.json"}


class Evaluator(Engine):
    """Runs over its own cases, as MONAI's evaluators do; what a case does is a function."""

    def __init__(self, out, cases, **does):
        super().__init__(lambda engine, case: does.get(case, write_pair)(out, case))
        self.cases = cases

    def run(self, *args, **kwargs):
        return super().run(self.cases, *args, **kwargs)


def test_a_case_that_fails_loses_its_outputs_of_an_earlier_run(tmp_path):
    write_pair(tmp_path, "a")
    write_volume(tmp_path, "v")

    def fail(out, case):
        report_failure(engine, CaseFailure(case, "UnreadableImageError", "it cannot be read."))

    engine = Evaluator(tmp_path, ["a", "b", "v"], a=fail, v=fail)
    run_cases(engine, cases=engine.cases, pending=engine.cases, output_dir=tmp_path)
    assert read_values(tmp_path) == {"b": 1}
    assert {*os.listdir(tmp_path)} == {"b_seg.nii.gz", "b_record.json"}


def test_ctrl_c_says_how_far_the_run_has_got(tmp_path):
    def stop(out, case):
        raise KeyboardInterrupt

    engine = Evaluator(tmp_path / "out", ["b", "c", "d"], c=stop)
    with pytest.raises(KeyboardInterrupt, match=r"^2 of 4 cases are done\. The same command goes"):
        run_cases(engine, cases=["a", *engine.cases], pending=engine.cases, output_dir=tmp_path)
    assert read_values(tmp_path / "out") == {"b": 1}


def test_nothing_pending_runs_nothing_and_leaves_no_folder(tmp_path):
    engine = Evaluator(tmp_path, [])
    run_cases(engine, cases=["a"], pending=[], output_dir=tmp_path / "out")
    assert engine.state.iteration == 0
    assert os.listdir(tmp_path) == []
