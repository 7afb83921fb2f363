import gzip
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from grata_monai.core.errors import (
    ChannelError,
    DatasetError,
    GeometryError,
    IntensityError,
    UnreadableImageError,
)
from grata_monai.core.limits import Limits
from grata_monai.nnunet import cases
from grata_monai.nnunet.cases import (
    check_files,
    check_voxels,
    list_cases,
    pair_cases,
    read_voxels,
    refuse_nothing,
)

TWO = {0: "T2", 1: "DWI"}


class Reader:
    def __init__(self, error):
        self.error = error

    def read_images(self, files):
        raise self.error


def test_files_are_grouped_by_case_in_the_order_of_channels(tmp_path):
    for name in ("b_0001.nii.gz", "b_0000.nii.gz", "a_0000.nii.gz", "c.nii.gz", "notes.txt"):
        (tmp_path / name).touch()
    found = list_cases(tmp_path, ".nii.gz")
    names = {case["case"]: [path.rsplit("/")[-1] for path in case["images"]] for case in found}
    assert names == {
        "a": ["a_0000.nii.gz"],
        "b": ["b_0000.nii.gz", "b_0001.nii.gz"],
        "c": ["c.nii.gz"],
    }


def test_labels_have_the_names_of_their_cases(tmp_path):
    for name in ("images/a_0000.nrrd", "images/a_0001.nrrd", "labels/a.nrrd"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (case,) = pair_cases(tmp_path / "images", tmp_path / "labels", ".nrrd")
    assert (case.pop("case"), case.pop("centre")) == ("a", "")
    assert {key: path.removeprefix(str(tmp_path)) for key, path in case.items()} == {
        "image": "/images/a_0000.nrrd",
        "image_0001": "/images/a_0001.nrrd",
        "label": "/labels/a.nrrd",
    }
    (alone,) = pair_cases(tmp_path / "images", None, ".nrrd")
    assert "label" not in alone
    (tmp_path / "labels" / "a.nrrd").unlink()
    with pytest.raises(DatasetError, match=r"every case must have a label, 'a.nrrd' is missing"):
        pair_cases(tmp_path / "images", tmp_path / "labels", ".nrrd")


def test_one_file_is_one_case(tmp_path):
    (tmp_path / "a_0000.nrrd").touch()
    assert [case["case"] for case in list_cases(tmp_path / "a_0000.nrrd", ".nrrd")] == ["a"]


def test_a_folder_without_such_images_says_what_it_holds(tmp_path):
    (tmp_path / "a_0000.nrrd").touch()
    with pytest.raises(DatasetError, match=r"<case>_0000.nii.gz.*holds none. It holds .nrrd"):
        refuse_nothing(tmp_path, ".nii.gz")


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DatasetError, match="images must exist, 'nowhere' does not"):
        refuse_nothing(tmp_path / "nowhere", ".nii.gz")


def test_every_channel_must_be_there():
    check_files(["a_0000.mha", "a_0001.mha"], ".mha", TWO)
    with pytest.raises(ChannelError, match=r"_0000 \(T2\), _0001 \(DWI\); got _0001"):
        check_files(["a_0001.mha"], ".mha", TWO)


def test_only_a_network_of_one_channel_takes_a_name_without_number():
    check_files(["a.mha"], ".mha", {0: "CT"})
    with pytest.raises(ChannelError, match="got a name without number"):
        check_files(["a.mha"], ".mha", TWO)


@pytest.fixture
def save(tmp_path):
    """Save small images by their names; gives their paths."""

    def save(*names):
        for name in names:
            nib.save(nib.Nifti1Image(np.ones((2, 2, 2), np.float32), np.eye(4)), tmp_path / name)
        return [str(tmp_path / name) for name in names]

    return save


def test_what_cannot_be_read_is_named(save):
    with pytest.raises(UnreadableImageError, match=r"Reader, 'a.nii' is not \(RuntimeError\)"):
        read_voxels(Reader(RuntimeError("in /some/where")), save("a.nii"))


def test_files_of_two_grids_are_told_apart_from_damaged_ones(save):
    with pytest.raises(GeometryError, match=r"'a_0000.nii', 'a_0001.nii' have not"):
        read_voxels(Reader(RuntimeError()), save("a_0000.nii", "a_0001.nii"))


class Taker:
    """A reader that notes what it is given."""

    def __init__(self):
        self.files = []

    def read_images(self, files):
        self.files += files
        return np.ones((1, 2, 2, 2)), {}


def test_a_reader_opens_what_has_been_read_to_its_end_within_limits(save, tmp_path):
    reader = Taker()
    good = [*save("a_0000.nii.gz", "a_0001.nii"), str(tmp_path / "a_0002.png")]
    read_voxels(reader, good)
    assert reader.files == good


@pytest.mark.parametrize("kind", ["pipe", "device", "bomb", "cut", "elsewhere", "claim"])
def test_a_hostile_file_never_reaches_nnu_nets_reader(save, tmp_path, kind, monkeypatch):
    reader, path = Taker(), tmp_path / ("b.mha" if kind == "elsewhere" else "b.nii.gz")
    (good,) = save("a.nii")
    content = Path(good).read_bytes()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "bomb":
        path.write_bytes(gzip.compress(content + bytes(2**27)))
    elif kind == "cut":
        path.write_bytes(gzip.compress(content)[:-9])
    elif kind == "elsewhere":
        path.write_text("NDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\n"
                        "ElementSpacing = 1 1 1\nTransformMatrix = 1 0 0 0 1 0 0 0 1\n"
                        "ElementDataFile = ../a.raw\n")  # fmt: skip
    else:
        monkeypatch.setattr(cases, "LIMITS", Limits(pixel_budget_bytes=16))
        path.write_bytes(gzip.compress(content))
    with pytest.raises(UnreadableImageError, match=rf"'{path.name}'"):
        read_voxels(reader, [good, str(path)] if kind != "claim" else [str(path)])
    assert reader.files == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_must_be_finite(value):
    voxels = np.zeros((1, 2, 2, 2), np.float32)
    voxels[0, 0, 0, 0] = value
    with pytest.raises(IntensityError, match="finite"):
        check_voxels(voxels, 1)


def test_voxels_must_differ():
    with pytest.raises(IntensityError, match="all are 3"):
        check_voxels(np.full((1, 2, 2, 2), 3.0), 1)


def test_time_points_are_no_channels():
    with pytest.raises(ChannelError, match=r"1 channel\(s\), got 4"):
        check_voxels(np.zeros((4, 2, 2, 2)), 1)
