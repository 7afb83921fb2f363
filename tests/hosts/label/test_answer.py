"""The record's essence lies where MONAI Label looks for it, and the mask gets a name's ending."""

import json
from dataclasses import replace

import pytest
from records import KEPT

from grata_monai.adapt.scores import Quality
from grata_monai.hosts.label.answer import AnswerRecordd
from grata_monai.record.types import Verdict


def test_light_and_sentence_come_first_and_the_record_is_whole():
    text = replace(KEPT, verdict=Verdict(Quality.AMBER)).to_json()
    answered = AnswerRecordd()({"pred": 1, "grata": text})
    sentence = "Source prediction kept, because adapted prediction must be finite."
    assert list(answered["result"].items()) == [
        ("light", "amber"),
        ("verdict", f"AMBER, look closely. {sentence}"),
        ("outcome", "source"),
        ("reason", "adapted prediction must be finite."),
        ("record", json.loads(text)),
    ]
    assert answered["pred"] == 1
    assert "result_extension" not in answered


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
