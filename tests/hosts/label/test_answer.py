"""The record's essence lies where MONAI Label looks for it, and the mask gets a name's ending."""

import json

import pytest

from grata_monai.hosts.label.answer import AnswerRecordd

VERDICT = {"light": "amber", "kept": "views", "reason": "low agreement", "agreement": 0.9}
RECORD = {"verdict": VERDICT, "outcome": "unadapted", "reason": "", "steps": []}


def test_light_and_verdict_come_first_and_the_record_is_whole():
    answered = AnswerRecordd()({"pred": 1, "grata": json.dumps(RECORD)})
    assert list(answered["result"].items())[:2] == [
        ("light", "amber"),
        ("verdict", "low agreement"),
    ]
    assert answered["result"]["record"] == RECORD
    assert answered["pred"] == 1
    assert "result_extension" not in answered


def test_without_a_guard_the_verdict_is_the_reason():
    record = {**RECORD, "verdict": {**VERDICT, "reason": ""}, "reason": "the recipe takes no step"}
    answered = AnswerRecordd()({"grata": json.dumps(record)})
    assert answered["result"]["verdict"] == "the recipe takes no step"


def test_data_without_a_record_stay_as_they_are():
    assert AnswerRecordd()({"pred": 1}) == {"pred": 1}


@pytest.mark.parametrize(
    ("path", "given", "expected"),
    [
        ("/s/case.nii.gz", None, ".nii.gz"),
        ("/s/case.1.NRRD", None, ".nrrd"),
        ("/s/1.2.840.10008", None, ".nii.gz"),
        ("/s/series", "", ".nii.gz"),
        ("/s/series", ".nrrd", ".nrrd"),
    ],
)
def test_a_mask_always_has_an_ending_and_small_voxels(path, given, expected):
    data = {"image_path": path, **({} if given is None else {"result_extension": given})}
    answered = AnswerRecordd()(data)
    assert (answered["result_extension"], answered["result_dtype"]) == (expected, "uint8")
    assert AnswerRecordd()({**data, "result_dtype": "uint16"})["result_dtype"] == "uint16"
