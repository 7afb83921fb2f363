"""Submitted labels become a centre's folder, without the segments that were there to compare."""

import gzip
import json

import nibabel as nib
import numpy as np
import pytest

from grata_monai.cli import main
from grata_monai.core.errors import DatasetError, UnreadableImageError
from grata_monai.hosts.label.collect import collect_labels, read_names
from grata_monai.read.cases import list_cases

NAMES = {"prostate": 1}


@pytest.fixture
def studies(tmp_path):
    """One study with a label of two segments, one with only what the network made."""
    folder = tmp_path / "studies"
    (folder / "labels" / "final").mkdir(parents=True)
    label = np.zeros((2, 2, 2), np.uint8)
    label[0], label[1, 0] = 1, 2
    for name in ("a", "b"):
        nib.save(nib.Nifti1Image(label * 10.0, np.eye(4)), folder / f"{name}.nii.gz")
    nib.save(nib.Nifti1Image(label, np.eye(4)), folder / "labels" / "final" / "a.nii.gz")
    segments = [{"name": "prostate, original network", "idx": 1}, {"name": "Prostate", "idx": 2}]
    image = {"ext": ".nii.gz"}
    final = {"ext": ".nii.gz", "info": {"label_info": segments}}
    objects = {"a": {"image": image, "labels": {"final": final, "original": {}}}}
    objects["b"] = {"image": image, "labels": {"original": {}}}
    (folder / "datastore_v2.json").write_text(json.dumps({"objects": objects}))
    return folder


def test_only_what_a_reader_submitted_is_taken_and_only_the_bundle_s_labels(studies, tmp_path):
    assert collect_labels(studies, tmp_path / "out", NAMES) == ["a"]
    (case,) = list_cases(tmp_path / "out", labels=True)
    label = np.asarray(nib.Nifti1Image.from_filename(case["label"]).dataobj)
    assert (label == 1).sum() == 2  # where the second segment was
    assert label.dtype == np.uint8


def test_the_command_takes_the_names_of_the_bundle(studies, tmp_path, repository, capsys):
    assert read_names(repository / "bundle" / "configs" / "metadata.json") == NAMES
    assert main(["label", "collect", str(studies), str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out == f"1 submitted label(s) in {tmp_path / 'out'}\n"


def test_another_folder_or_another_format_is_refused(studies, tmp_path):
    with pytest.raises(DatasetError, match="STUDIES must be a folder that MONAI Label served"):
        collect_labels(tmp_path, tmp_path / "out", NAMES)
    index = studies / "datastore_v2.json"
    index.write_text(
        index.read_text().replace('"ext": ".nii.gz", "info"', '"ext": ".nrrd", "info"')
    )
    with pytest.raises(DatasetError, match=r"a submitted label must be NIfTI.*'a' is otherwise"):
        collect_labels(studies, tmp_path / "out", NAMES)


@pytest.mark.parametrize(
    "segments", [[7], [{}], [{"name": "a", "idx": "b"}], "all", [{"name": "a", "idx": 1e999}], 7]
)
def test_segments_that_are_none_are_refused_by_the_study_s_name(studies, tmp_path, segments):
    index = studies / "datastore_v2.json"
    content = json.loads(index.read_text())
    content["objects"]["a"]["labels"]["final"]["info"]["label_info"] = segments
    index.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=r"must be a list of names and numbers, that of 'a'"):
        collect_labels(studies, tmp_path / "out", NAMES)


def test_a_submitted_label_is_read_within_the_limits_of_any_image(studies, tmp_path):
    label = studies / "labels" / "final" / "a.nii.gz"
    label.write_bytes(gzip.compress(bytes(2**21))[:-9])
    with pytest.raises(UnreadableImageError, match=r"'a\.nii\.gz'"):
        collect_labels(studies, tmp_path / "out", NAMES)
