"""Cases are found wherever users keep them, and what is missing is named."""

import json
import logging
import os

import pytest

from grata_monai.core.errors import DatasetError
from grata_monai.read import cases as module
from grata_monai.read.cases import (
    list_cases,
    list_phantoms,
    select_cases,
    split_cases,
    strip_extension,
)


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names(cases):
    return [case["case"] for case in cases]


@pytest.fixture
def centres(tmp_path):
    """Two centres that share a case name, with the clutter of real folders."""
    for centre, files in {"B": ["Case02", "Case01"], "A": ["Case01", "Case03"]}.items():
        for file in files:
            touch(tmp_path / centre / "images" / f"{file}.nii.gz")
            touch(tmp_path / centre / "labels" / f"{file}.nii.gz")
    touch(tmp_path / "cases.json", tmp_path / "README.md", tmp_path / ".cache" / "images" / "x.nii")
    return tmp_path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mha", "a.mhd", "a.nrrd", "a.NII.GZ"])
def test_one_file_is_one_case(tmp_path, name):
    touch(tmp_path / name)
    expected = {"image": str(tmp_path / name), "case": "a", "centre": ""}
    assert list_cases(tmp_path / name) == [expected]


def test_a_flat_folder_is_sorted_and_says_how_much_it_skips(tmp_path, caplog):
    touch(*(tmp_path / n for n in ["b.nii", "a.mha", "c.NRRD", "notes.txt", "._b.nii", "d.raw"]))
    touch(tmp_path / "sub" / "e.nii")
    with caplog.at_level(logging.INFO, logger="grata_monai"):
        assert names(list_cases(tmp_path)) == ["a", "b", "c"]
    assert "skipped 3 file(s) that are no images" in caplog.text


def test_a_folder_with_images_and_labels(tmp_path):
    touch(tmp_path / "images" / "a.nii.gz", tmp_path / "labels" / "a.nii.gz")
    (case,) = list_cases(tmp_path, labels=True)
    assert case["label"] == str(tmp_path / "labels" / "a.nii.gz")
    assert "label" not in list_cases(tmp_path)[0]
    assert list_cases(tmp_path / "images", labels=True) == [case]
    assert list_cases(tmp_path / "images" / "a.nii.gz", labels=True) == [case]


def test_a_label_may_have_another_format_than_its_image(tmp_path):
    touch(tmp_path / "images" / "a.mha", tmp_path / "labels" / "a.nii.gz")
    assert list_cases(tmp_path, labels=True)[0]["label"].endswith("a.nii.gz")


def test_centres_are_folders_and_equal_names_are_told_apart(centres):
    found = list_cases(centres, labels=True)
    assert names(found) == ["A_Case01", "Case03", "B_Case01", "Case02"]
    assert [case["centre"] for case in found] == ["A", "A", "B", "B"]


def test_equal_names_in_one_folder_get_numbers(tmp_path):
    touch(tmp_path / "scans" / "a.nii", tmp_path / "scans" / "a.nii.gz")
    assert names(list_cases(tmp_path / "scans")) == ["scans_a", "scans_a_2"]


def test_symlinks_keep_their_own_name(tmp_path):
    touch(tmp_path / "store" / "4711.nii.gz")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "alias.nii.gz").symlink_to(tmp_path / "store" / "4711.nii.gz")
    assert names(list_cases(tmp_path)) == ["alias"]


def test_relative_paths_start_at_the_current_folder(tmp_path, monkeypatch):
    touch(tmp_path / "data" / "a.nii")
    monkeypatch.chdir(tmp_path)
    assert list_cases("data")[0]["image"] == str(tmp_path / "data" / "a.nii")


@pytest.mark.parametrize(
    "content",
    [
        ["s1/t2.nii.gz", {"image": "s2/t2.nii.gz"}],
        {"training": [{"image": "x.nii"}], "testing": ["s1/t2.nii.gz", {"image": "s2/t2.nii.gz"}]},
        {"name": "mine", "testing": [], "test": ["./s1/t2.nii.gz", "./s2/t2.nii.gz"]},
    ],
)
def test_a_data_list_is_relative_to_its_own_folder(tmp_path, content, monkeypatch):
    path = tmp_path / "lists" / "list.json"
    touch(path)
    path.write_text(json.dumps(content))
    monkeypatch.chdir("/")
    found = list_cases(path)
    assert names(found) == ["s1_t2", "s2_t2"]
    assert found[0]["image"] == str(tmp_path / "lists" / "s1" / "t2.nii.gz")


def test_a_data_list_takes_the_section_that_has_labels(tmp_path):
    touch(tmp_path / "l.nii")
    content = {"testing": ["t.nii"], "training": [{"image": "i.nii", "label": "l.nii"}]}
    (tmp_path / "list.json").write_text(json.dumps(content))
    (case,) = list_cases(tmp_path / "list.json", labels=True)
    assert case == {
        "image": str(tmp_path / "i.nii"),
        "case": "i",
        "centre": "",
        "label": str(tmp_path / "l.nii"),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"data list must be JSON, 'list.json' is not: .*line 1"),
        ("3", r"must be a list of cases, or hold one under testing"),
        ("{}", r"must be a list of cases, or hold one under testing"),
        ('[{"img": "a.nii"}]', r"item 0 of 'list.json' must have one path under 'image'"),
        ('["a.nii", 7]', r"item 1 of 'list.json' must have one path under 'image'"),
        ('[{"image": ["a.nii", "b.nii"]}]', r"item 0 of 'list.json' must have one path"),
    ],
)
def test_a_malformed_data_list_is_refused(tmp_path, text, message):
    (tmp_path / "list.json").write_text(text)
    with pytest.raises(DatasetError, match=message):
        list_cases(tmp_path / "list.json")


def test_a_data_list_without_its_labels_is_refused(tmp_path):
    (tmp_path / "list.json").write_text('[{"image": "a.nii", "label": "b.nii"}]')
    with pytest.raises(DatasetError, match=r"label of item 0 .* must exist, 'b.nii' does not"):
        list_cases(tmp_path / "list.json", labels=True)


def test_a_missing_path_suggests_the_nearest_that_exists(tmp_path):
    (tmp_path / "promise12").mkdir()
    with pytest.raises(DatasetError, match=r"got 'promise21'\. Did you mean 'promise12' in"):
        list_cases(tmp_path / "promise21")
    with pytest.raises(DatasetError, match=r"got 'images'\. Did you mean 'promise12' in"):
        list_cases(tmp_path / "promise13" / "images")
    with pytest.raises(DatasetError, match=r"'qqq' is not in .*check the path"):
        list_cases(tmp_path / "qqq")


def test_a_folder_without_images_says_what_was_looked_for(tmp_path):
    touch(tmp_path / "scan.dcm")
    with pytest.raises(DatasetError, match=r"must hold images \(\.nii\.gz, .*a folder images/"):
        list_cases(tmp_path)
    (tmp_path / "images").mkdir()
    with pytest.raises(DatasetError, match=r"images/ of .* must hold images"):
        list_cases(tmp_path)
    with pytest.raises(DatasetError, match=r"must be a folder, a data list .* got 'scan\.dcm'"):
        list_cases(tmp_path / "scan.dcm")


def test_a_missing_label_is_named(centres):
    (centres / "A" / "labels" / "Case03.nii.gz").unlink()
    with pytest.raises(DatasetError, match=r"must have a label labels/Case03\.nii\.gz"):
        list_cases(centres, labels=True)
    assert len(list_cases(centres)) == 4


def test_a_flat_folder_has_no_labels(tmp_path):
    touch(tmp_path / "flat" / "a.nii")
    with pytest.raises(DatasetError, match="Put the images into images/"):
        list_cases(tmp_path / "flat", labels=True)


def fake_phantoms(folder, *, cases, shift, seed):
    name = f"phantom_{shift}_{seed:04d}.nii.gz"
    touch(folder / "images" / name, folder / "labels" / name)
    return [(folder / "images" / name, folder / "labels" / name)] * cases


def test_no_path_makes_one_phantom_of_an_unseen_scanner(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "write_cases", fake_phantoms)
    (case,) = list_cases(None, phantom_dir=tmp_path / "phantom")
    assert case["case"] == "phantom_endorectal_coil_0000"
    assert set(case) == {"image", "case", "centre"}
    assert "label" in list_cases(None, labels=True, phantom_dir=tmp_path / "phantom")[0]
    with pytest.raises(DatasetError, match="dataset_dir must be given, got none"):
        list_cases(None)


def test_phantoms_take_the_shifts_in_turn(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "write_cases", fake_phantoms)
    found = list_phantoms(tmp_path, cases=3, shifts=["none", "gain"], seed=7)
    assert names(found) == ["phantom_none_0007", "phantom_gain_0008", "phantom_none_0009"]
    assert all("label" in case for case in found)


@pytest.mark.slow
def test_phantoms_are_really_written(tmp_path):
    (case,) = list_phantoms(tmp_path, cases=1)
    assert (tmp_path / "images" / f"{case['case']}.nii.gz").stat().st_size > 0


def make(centre, number):
    return {"image": "", "case": f"{centre}{number}", "centre": centre}


MANY = [make(c, n) for c, size in {"a": 5, "b": 2, "c": 9}.items() for n in range(size)]


def test_a_split_takes_turns_between_centres():
    training, held_back = split_cases(MANY, held_back=7, seed=0)
    assert sorted(case["centre"] for case in held_back) == ["a"] * 3 + ["b"] * 2 + ["c"] * 2
    assert [case for case in MANY if case not in held_back] == training


def test_a_split_depends_on_names_and_seed_only():
    held_back = split_cases(MANY, held_back=4, seed=3)[1]
    again = split_cases(MANY[::-1], held_back=4, seed=3)[1]
    assert sorted(names(held_back)) == sorted(names(again))
    others = [sorted(names(split_cases(MANY, held_back=4, seed=s)[1])) for s in range(5)]
    assert len({tuple(other) for other in others}) > 1


def test_a_split_leaves_something_to_train_on():
    assert split_cases(MANY, held_back=0, seed=0) == (MANY, [])
    with pytest.raises(ValueError, match=r"held_back must lie in \[0, 15\] for 16 cases, got 16"):
        split_cases(MANY, held_back=16, seed=0)


def test_centres_are_selected_by_name():
    assert names(select_cases(MANY, only=["b"])) == ["b0", "b1"]
    uppercase = [{**case, "centre": "RUNMC"} for case in MANY]
    with pytest.raises(DatasetError, match=r"got 'RUNCM'. Did you mean 'RUNMC'"):
        select_cases(uppercase, only=["RUNCM"])


def test_only_image_extensions_are_stripped():
    assert strip_extension("a.b.nii.gz") == "a.b"
    assert strip_extension("Case.v2") == "Case.v2"


@pytest.mark.parametrize(
    ("typed", "folder"),
    [(20240101, "20240101"), (("a", "b"), "a,b"), (("a", 2), "a,2"), ("a,b", "a,b")],
)
def test_a_folder_is_found_by_what_a_command_line_makes_of_its_name(
    tmp_path, monkeypatch, typed, folder
):
    touch(tmp_path / folder / "x.nii")
    monkeypatch.chdir(tmp_path)
    assert names(list_cases(typed)) == ["x"]


@pytest.mark.parametrize("typed", [2025.1, True])
def test_a_name_that_is_lost_on_the_way_is_not_guessed(typed):
    with pytest.raises(ValueError, match=r"dataset_dir must be a text, got .*begin a path"):
        list_cases(typed)


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        ("north", ["1", "2"]),
        (1, ["1"]),
        ("1", ["1"]),
        ((1, 3), ["1", "3"]),
        ([1, "south"], ["1", "3"]),
        (("south",), ["3"]),
    ],
)
def test_only_takes_one_name_or_several_as_a_command_line_gives_them(tmp_path, only, expected):
    touch(tmp_path / "north" / "images" / "1.nii", tmp_path / "north" / "images" / "2.nii")
    touch(tmp_path / "south" / "images" / "3.nii")
    assert names(list_cases(tmp_path, only=only)) == expected


def test_a_name_that_is_no_text_survives(tmp_path):
    (tmp_path / os.fsdecode(b"M\xfcller.nii")).touch()
    assert os.fsencode(names(list_cases(tmp_path))[0]) == b"M\xfcller"


def test_a_name_steers_neither_a_terminal_nor_a_line_of_a_log(tmp_path):
    touch(tmp_path / "a\x1b[31m\x07.nii", tmp_path / "b\nerror: c.nii", tmp_path / "d\u202ee.nii")
    assert sorted(names(list_cases(tmp_path))) == ["a_[31m_", "b_error: c", "d_e"]


def test_no_two_cases_are_called_alike_once_they_are_files(tmp_path):
    touch(tmp_path / "case1.mha", tmp_path / "case1.mha.nii.gz", tmp_path / "CASE2.nii")
    touch(tmp_path / "case2.nii")
    found = [name.casefold() for name in names(list_cases(tmp_path))]
    assert len(set(found)) == 4
    assert found == [strip_extension(name) for name in found]


def test_names_of_a_data_list_become_names_of_files(tmp_path):
    items = [{"image": f"{i}.nii", "case": n} for i, n in enumerate(NAMES)]
    (tmp_path / "list.json").write_text(json.dumps(items))
    assert names(list_cases(tmp_path / "list.json")) == [
        "north_1",
        "south_1",
        "001",
        "_.._etc_x",
        "a_b",
        "case",
    ]


NAMES = ["north/1", "south/1", "001.nii", "../../etc/x", "a\\b", ".."]


def test_masks_of_an_earlier_run_are_no_cases(tmp_path, caplog):
    touch(tmp_path / "A.nii.gz", tmp_path / "A_seg.nii.gz", tmp_path / "B_seg.nii.gz")
    record = {"output": {"file": "A_seg.nii.gz", "sha256": "0"}}
    (tmp_path / "A_record.json").write_text(json.dumps(record))
    (tmp_path / "B_record.json").write_text("[]")  # not ours
    with caplog.at_level(logging.INFO, logger="grata_monai"):
        assert names(list_cases(tmp_path)) == ["A", "B_seg"]
    assert "skipped 1 mask(s) of an earlier run" in caplog.text


@pytest.mark.parametrize("place", ["images", "labels", "alias"])
def test_a_run_may_not_write_where_it_reads(tmp_path, place):
    touch(tmp_path / "images" / "a.nii.gz", tmp_path / "labels" / "a.nii.gz")
    (tmp_path / "alias").symlink_to(tmp_path / "images")
    with pytest.raises(DatasetError, match="must be another folder than that of the images"):
        list_cases(tmp_path, labels=True, output_dir=tmp_path / place)
    assert names(list_cases(tmp_path, labels=True, output_dir=tmp_path / "masks")) == ["a"]


def test_the_phantom_lies_below_the_outputs(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "write_cases", fake_phantoms)
    monkeypatch.chdir(tmp_path)
    (case,) = list_cases(None, output_dir=2025)
    assert case["image"].startswith(str(tmp_path / "2025" / "phantom"))


def test_a_folder_of_dicom_files_is_recognised_and_what_takes_it_is_named(tmp_path):
    (tmp_path / "series").mkdir()
    (tmp_path / "series" / "1").write_bytes(bytes(128) + b"DICM" + bytes(200))
    with pytest.raises(DatasetError, match=r"holds DICOM files\. Run `grata-monai segment`"):
        list_cases(tmp_path)
