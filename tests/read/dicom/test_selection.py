import json
from pathlib import Path

import pytest

from grata_monai.read.dicom.selection import Selection, note_mismatches, select
from grata_monai.read.dicom.volume import DicomVolume, SourceFrame

AXIAL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
SAGITTAL = ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0))


def volume(name, *, slices=20, spacing=3.0, directions=AXIAL, study="1.1", **others):
    normal = (0.0, 0.0, 1.0) if directions is AXIAL else (-1.0, 0.0, 0.0)
    frames = tuple(
        SourceFrame(
            file=Path(name),
            number=1,
            sop_instance_uid=f"{name}.{index}",
            position_lps=tuple(value * spacing * index for value in normal),
        )
        for index in range(slices)
    )
    given = {
        "modality": "MR",
        "body_part": "PROSTATE",
        "description": "t2_tse_tra DOE",
        "image_type": ("ORIGINAL", "PRIMARY", "M"),
    }
    return DicomVolume(
        name=name,
        frames=frames,
        rows=4,
        columns=4,
        row_direction=directions[0],
        column_direction=directions[1],
        row_spacing=1.0,
        column_spacing=1.0,
        study_uid=study,
        series_uid=name,
        frame_of_reference_uid="1.4",
        sop_class_uid="1.5",
        transfer_syntax_uids=("1.6",),
        **{**given, **others},
    )


def names(volumes):
    return [volume.name for volume in volumes]


@pytest.mark.parametrize(
    ("rules", "is_met"),
    [
        ({}, True),
        ({"modality": "MR"}, True),
        ({"modality": ["CT", "MR"]}, True),
        ({"modality": "CT"}, False),
        ({"body_part": ["prostate", "PELVIS"]}, True),
        ({"body_part": "ABDOMEN"}, False),
        ({"description": "T2.*tra"}, True),
        ({"description": "^tra"}, False),
        ({"image_type": ["original", "M"]}, True),
        ({"image_type": ["DERIVED"]}, False),
        ({"minimum_slices": 20}, True),
        ({"minimum_slices": 21}, False),
        ({"orientation": "axial"}, True),
        ({"orientation": "coronal"}, False),
    ],
)
def test_a_volume_is_kept_if_it_meets_every_rule(rules, is_met):
    kept, refused = select([volume("a")], Selection.from_dict(rules))
    assert names(kept) == (["a"] if is_met else [])
    assert [rejection.reason.value for rejection in refused] == ([] if is_met else ["not_selected"])
    if refused:
        told = f"Volume must meet the selection's {next(iter(rules))}, which is "
        assert refused[0].message.startswith(told)
        assert refused[0].instances == 20
        assert "DOE" not in repr(refused)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"modality": ["CT"]}, "modality, which is CT; it has MR."),
        ({"orientation": "coronal"}, "orientation, which is coronal; it has axial."),
        ({"minimum_slices": 21}, "minimum_slices, which is 21 or more; it has 20."),
        (
            {"body_part": ["ABDOMEN", "CHEST"]},
            "body_part, which is ABDOMEN or CHEST; it has another.",
        ),
    ],
)
def test_a_refusal_says_what_was_found(rules, message):
    _, (refused,) = select([volume("a")], Selection.from_dict(rules))
    assert refused.message == f"Volume must meet the selection's {message}"


def test_what_the_network_was_not_trained_on_is_noted_not_refused():
    expected = Selection(orientation="axial", body_part=("HEAD",), description="t1")
    (noted,) = note_mismatches([volume("a", directions=SAGITTAL)], expected)
    assert noted.notes == (
        "the network was trained on another body_part, which is HEAD; it has another",
        "the network was trained on another description, which is t1; it has another",
        "the network was trained on another orientation, which is axial; it has sagittal",
    )
    assert "DOE" not in repr(noted.notes)


def test_what_dicom_does_not_say_is_no_mismatch():
    bare = volume("a", body_part="", description="")
    expected = Selection(orientation="axial", body_part=("HEAD",), description="t1")
    assert note_mismatches([bare], expected) == [bare]


def test_orientation_is_that_of_the_nearest_axis():
    kept, _ = select(
        [volume("a"), volume("b", directions=SAGITTAL)], Selection(orientation="sagittal")
    )
    assert names(kept) == ["b"]


def test_without_rules_every_volume_of_a_study_is_kept():
    kept, refused = select([volume("a"), volume("b")], Selection())
    assert (names(kept), refused) == (["a", "b"], [])


@pytest.mark.parametrize(
    ("rule", "kept", "reasons"),
    [
        ("refuse", ["d"], ["ambiguous_selection"] * 3),
        ("keep", ["a", "b", "c", "d"], []),
        ("most_slices", ["b", "d"], ["not_selected"] * 2),
        ("finest_slices", ["c", "d"], ["not_selected"] * 2),
    ],
)
def test_several_matches_of_one_study_are_settled_by_the_stated_rule(rule, kept, reasons):
    volumes = [
        volume("a"),
        volume("b", slices=30),
        volume("c", spacing=1.0),
        volume("d", study="1.2"),
    ]
    found, refused = select(volumes, Selection(modality=("MR",), on_many=rule))
    assert names(found) == kept
    assert [rejection.reason.value for rejection in refused] == reasons


def test_a_draw_is_refused():
    kept, refused = select(
        [volume("a"), volume("b")], Selection(modality=("MR",), on_many="most_slices")
    )
    assert kept == []
    assert {rejection.reason.value for rejection in refused} == {"ambiguous_selection"}
    assert "Rule most_slices must leave one volume, 2 of one study" in refused[0].message


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"modalty": "MR"}, ValueError, "Did you mean 'modality'"),
        ({"modality": "MRI"}, ValueError, "modality must be among CT, MR, got 'MRI'. Did you mean"),
        ({"modality": 3}, TypeError, "modality must be a list of texts, got 3"),
        ({"image_type": [1]}, TypeError, "image_type must be a list of texts"),
        ({"orientation": "axal"}, ValueError, "Did you mean 'axial'"),
        ({"on_many": "merge"}, ValueError, "on_many must be among refuse, keep"),
        ({"minimum_slices": 1}, ValueError, "must be at least 2, got 1"),
        ({"minimum_slices": 2.0}, TypeError, "must be of type int, got 2.0"),
        ({"minimum_slices": True}, TypeError, "must be of type int, got True"),
        ({"require_frame_of_reference": 1}, TypeError, "must be of type bool, got 1"),
        ({"description": "("}, ValueError, "must be a regular expression"),
    ],
)
def test_a_faulty_rule_is_refused_when_built(values, error, message):
    with pytest.raises(error, match=message):
        Selection.from_dict(values)


def test_a_selection_is_read_from_a_file(tmp_path):
    path = tmp_path / "selection.json"
    path.write_text(json.dumps({"modality": "MR", "minimum_slices": 10}))
    assert Selection.from_json(path) == Selection(modality=("MR",), minimum_slices=10)
    for content, message in (("{", "must be a JSON file"), ("[]", "must be one JSON object")):
        path.write_text(content)
        with pytest.raises(ValueError, match=f"selection {message}, 'selection.json'"):
            Selection.from_json(path)
    with pytest.raises(ValueError, match="FileNotFoundError"):
        Selection.from_json(tmp_path / "gone.json")
