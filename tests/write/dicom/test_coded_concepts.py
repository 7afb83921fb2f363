"""Segments are coded as the bundle's metadata say, or by their well-known names."""

import json

import pytest
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from grata_monai.core.errors import DicomError
from grata_monai.write.dicom.coded_concepts import (
    KNOWN,
    SAME,
    Segment,
    check_numbers,
    name_segments,
    read_segments,
)

ORGAN = Code("91723000", "SCT", "Anatomical Structure")
PROSTATE = {"value": "41216001", "scheme": "SCT", "meaning": "Prostate"}


@pytest.fixture
def write(tmp_path):
    """Write a bundle's metadata."""

    def run(segments=None, channels=None):
        outputs = {"pred": {"channel_def": channels or {"0": "background"}}}
        content = {"network_data_format": {"outputs": outputs}}
        if segments is not None:
            content["segments"] = segments
        path = tmp_path / "metadata.json"
        path.write_text(json.dumps(content))
        return path

    return run


def test_the_shipped_bundle_segments_the_prostate(repository):
    (segment,) = read_segments(repository / "bundle" / "configs" / "metadata.json")
    assert (segment.number, segment.label) == (1, "prostate")
    assert segment.type == Code("41216001", "SCT", "Prostate")
    assert segment.category == ORGAN


def test_codes_are_taken_as_given(write):
    code = {"value": "X1", "scheme": "99LOCAL", "meaning": "Something of ours"}
    entry = {"number": 1, "label": "ours", "type": code, "category": code, "modifier": code}
    (segment,) = read_segments(write([{**entry, "region": code, "colour": [1, 2, 3]}]))
    expected = Code("X1", "99LOCAL", "Something of ours")
    assert segment == Segment(1, "ours", *[expected] * 4, colour=(1, 2, 3))  # type: ignore[misc]


def test_channels_are_found_by_name(write):
    channels = {"2": "Kidney_Left", "0": "background", "1": "right kidney", "3": "tumour"}
    segments = read_segments(write(channels=channels))
    assert [segment.type.value for segment in segments] == ["64033007", "64033007", "108369006"]
    assert [segment.modifier and segment.modifier.value for segment in segments] == [
        "24028007",
        "7771000",
        None,
    ]
    assert segments[2].category.value == "49755003"  # morphologically abnormal structure
    assert len({segment.colour for segment in segments}) == 3


def test_a_left_ventricle_is_one_term():
    assert KNOWN["left ventricle"][0].value == "87878005"


def test_every_known_name_has_a_sct_code(write):
    for name in [*KNOWN, *SAME]:
        (segment,) = read_segments(write([{"number": 1, "label": name}]))
        assert segment.type.scheme_designator == "SCT"
        assert segment.modifier is None


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        ([{"number": 1, "label": "prostat"}], "did you mean 'prostate'"),
        ([{"number": 1, "label": "gizmo"}], 'Give it a "type"'),
        ([{"number": 2, "label": "prostate"}], r"numbered 1, 2, 3.* got \[2\]"),
        ([{"number": 1, "label": "prostate", "color": [1, 2, 3]}], "got \\['color'\\]"),
        ([{"number": 1, "label": "prostate", "colour": [1, 2, 300]}], "colour must be three"),
        ([{"number": 1, "label": "  "}], "label"),
        ([{"number": 1, "label": "p" * 65, "type": PROSTATE}], "1 to 64 characters"),
        ([{"number": 0, "label": "prostate"}], "number must lie in 1"),
        ([{"number": 1, "label": "x", "type": {**PROSTATE, "value": ""}}], "a code needs value"),
        ([{"number": 1, "label": "x", "type": {"value": "1"}}], "'scheme'"),
        ([{"label": "prostate"}], "'number'"),
        ([7], "list of segments"),
        ({"prostate": 1}, "list of segments"),
        (None, "numbered 1, 2, 3"),
    ],
)
def test_a_bad_description_is_refused_with_what_to_do(write, segments, message):
    with pytest.raises(DicomError, match=message):
        read_segments(write(segments))


def test_metadata_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(DicomError, match=r"readable JSON file, 'none\.json' is not"):
        read_segments(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(DicomError, match="JSONDecodeError"):
        read_segments(tmp_path / "bad.json")


def test_numbers_must_be_consecutive(segments):
    check_numbers(segments)
    with pytest.raises(ValueError, match=r"got \[2, 1\]"):
        check_numbers(segments[::-1])


def test_names_alone_give_codes_where_they_are_known():
    liver, kidney, other = name_segments({1: "liver", 2: "kidney_right", 3: "vertebrae_L5"})
    assert (liver.type.meaning, kidney.type.meaning) == ("Liver", "Kidney")
    assert kidney.modifier == codes.SCT.Right
    assert (other.label, other.type) == ("vertebrae_L5", codes.SCT.AnatomicalStructure)


def test_a_number_without_a_name_is_called_after_itself():
    assert [segment.label for segment in name_segments({2: "liver"})] == ["label 1", "liver"]
