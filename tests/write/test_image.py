"""A mask lies on its image's grid, with equal bytes for equal maps, never without its record."""

import gzip
import hashlib
import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor, decollate_batch
from monai.data.utils import list_data_collate
from monai.transforms import AsDiscreted, Compose, Invertd, Orientationd

from grata_monai.core.errors import GeometryError, OutputError
from grata_monai.read.image import LoadImageCheckedd
from grata_monai.read.outputs import list_masks
from grata_monai.read.transforms import SafeSpacingd
from grata_monai.write.image import LiftRecordd, SaveImageAndRecordd, write_label_map

AFFINE = np.array([[0.0, -0.8, 0, 11], [-0.8, 0, 0, 22], [0, 0, 3.0, 33], [0, 0, 0, 1]])


@pytest.fixture
def label_map():
    return (np.arange(60).reshape(3, 4, 5) % 3).astype(np.int64)


def test_a_label_map_reads_back_with_its_grid(tmp_path, label_map):
    for values in (label_map, torch.tensor(label_map), MetaTensor(torch.tensor(label_map)).float()):
        write_label_map(values, affine_ras=AFFINE, path=tmp_path / "a.nii.gz")
        file = nib.Nifti1Image.from_filename(tmp_path / "a.nii.gz")
        np.testing.assert_array_equal(np.asarray(file.dataobj), label_map)
        assert file.get_data_dtype() == np.uint8
        np.testing.assert_allclose(file.get_sform(), AFFINE, atol=1e-6)
        np.testing.assert_allclose(file.get_qform(), AFFINE, atol=1e-5)
        assert (file.header["sform_code"], file.header["qform_code"]) == (1, 1)
        assert file.header.get_xyzt_units()[0] == "mm"


def test_equal_maps_give_equal_bytes(tmp_path, label_map, monkeypatch):
    write_label_map(label_map, affine_ras=AFFINE, path=tmp_path / "a.nii.gz")
    monkeypatch.setattr("time.time", lambda: 1e9)
    write_label_map(label_map, affine_ras=AFFINE, path=tmp_path / "other_name.nii.gz")
    content = (tmp_path / "a.nii.gz").read_bytes()
    assert content == (tmp_path / "other_name.nii.gz").read_bytes()
    assert content[3:8] == bytes(5)  # RFC 1952: no flags, so no name; time 0
    write_label_map(label_map, affine_ras=AFFINE, path=tmp_path / "a.nii")
    assert gzip.decompress(content) == (tmp_path / "a.nii").read_bytes()


@pytest.mark.parametrize("value", [0.5, -1, 256, np.nan])
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")
def test_what_is_no_label_is_not_written(tmp_path, value):
    with pytest.raises(ValueError, match="must hold whole numbers that fit uint8"):
        write_label_map(np.full((2, 2, 2), value), affine_ras=AFFINE, path=tmp_path / "a.nii.gz")
    assert os.listdir(tmp_path) == []


RECORD = json.dumps({"outcome": "adapted", "cosine": 0.5})


@pytest.fixture
def case(tmp_path, label_map):
    """What reaches the writer: image, prediction on its grid, record."""
    path = tmp_path / "in" / "Case07.nii.gz"
    path.parent.mkdir()
    nib.save(nib.Nifti1Image(label_map.astype("i2"), AFFINE), path)
    image = LoadImageCheckedd("image")({"image": str(path)})["image"]
    pred = MetaTensor((image > 1).as_tensor().float(), meta=dict(image.meta))
    return {"image": image, "pred": pred, "grata": RECORD, "case": "A_Case07"}


def test_mask_and_record_are_written_together(tmp_path, case):
    saved = SaveImageAndRecordd("pred", tmp_path / "out")(case)
    assert sorted(os.listdir(tmp_path / "out")) == ["A_Case07_record.json", "A_Case07_seg.nii.gz"]
    assert saved["mask_file"] == str(tmp_path / "out" / "A_Case07_seg.nii.gz")
    file = nib.Nifti1Image.from_filename(saved["mask_file"])
    voxels = np.asarray(file.dataobj)
    np.testing.assert_array_equal(voxels, case["pred"][0].numpy())
    np.testing.assert_allclose(file.affine, AFFINE, atol=1e-6)
    with open(saved["record_file"]) as stream:
        record = json.load(stream)
    digest = hashlib.sha256(np.ascontiguousarray(voxels).tobytes()).hexdigest()
    assert record == {
        **json.loads(RECORD),
        "output": {"file": "A_Case07_seg.nii.gz", "sha256": digest, "more": [], "made_from": ""},
    }
    assert saved["grata"] == RECORD


def test_a_case_without_a_name_is_called_after_its_file(tmp_path, case):
    del case["case"]
    SaveImageAndRecordd("pred", str(tmp_path / "out"), suffix="_mask")(case)
    assert sorted(os.listdir(tmp_path / "out")) == ["Case07_mask.nii.gz", "Case07_record.json"]
    case["pred"].meta.pop("filename_or_obj")
    with pytest.raises(OutputError, match="data must name their case"):
        SaveImageAndRecordd("pred", tmp_path / "out")(case)


def test_a_name_never_leads_out_of_the_folder(tmp_path, case):
    SaveImageAndRecordd("pred", tmp_path / "out")({**case, "case": "../../evil"})
    assert sorted(os.listdir(tmp_path / "out")) == ["evil_record.json", "evil_seg.nii.gz"]


def test_a_mask_without_its_record_is_refused(tmp_path, case):
    del case["grata"]
    with pytest.raises(OutputError, match=r"must have its record, .* Put LiftRecordd first"):
        SaveImageAndRecordd("pred", tmp_path / "out")(case)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda pred: pred[:, :2], r"must have the shape of its image, \(1, 3, 4, 5\)"),
        (lambda pred: torch.cat([pred, pred]), "Put argmax and Invertd before the writer"),
        (
            lambda pred: MetaTensor(pred.as_tensor(), affine=torch.eye(4)),
            "must have the affine of its",
        ),
        (lambda pred: pred.as_tensor(), "must know its image's grid"),
    ],
)
def test_a_mask_on_another_grid_is_refused(tmp_path, case, change, message):
    with pytest.raises(GeometryError, match=message):
        SaveImageAndRecordd("pred", tmp_path / "out")({**case, "pred": change(case["pred"])})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("has_older", [False, True])
def test_a_mask_that_cannot_be_written_leaves_no_new_record(tmp_path, case, monkeypatch, has_older):
    writer = SaveImageAndRecordd("pred", tmp_path / "out")
    if has_older:
        writer(case)
    before = {p.name: p.read_bytes() for p in (tmp_path / "out").glob("*")}

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nib, "save", fail)
    with pytest.raises(OutputError, match="No space left on device"):
        writer({**case, "grata": "{}"})
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").glob("*")} == before
    assert (tmp_path / "out").exists() == has_older


def test_a_record_whose_mask_cannot_take_its_place_is_removed(tmp_path, case):
    (tmp_path / "out" / "A_Case07_seg.nii.gz").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"'A_Case07_seg\.nii\.gz' is not: Is a directory"):
        SaveImageAndRecordd("pred", tmp_path / "out")(case)
    assert os.listdir(tmp_path / "out") == ["A_Case07_seg.nii.gz"]


def test_an_output_folder_that_cannot_be_made_is_refused(tmp_path, case):
    with pytest.raises(OutputError, match="output folder must be writable, 'out' is not"):
        SaveImageAndRecordd("pred", tmp_path / "in" / "Case07.nii.gz" / "out")(case)


def test_further_masks_of_a_case_have_suffixes_of_their_own():
    for suffix in ("_seg", ("_seg", "_seg"), ("_seg", "_source", "_more")):
        with pytest.raises(ValueError, match="suffix must be one for each key, each another"):
            SaveImageAndRecordd(["pred", "source"], suffix=suffix)


def test_all_masks_of_a_case_stand_in_its_one_record(tmp_path, case):
    case["source"] = MetaTensor(1 - case["pred"].as_tensor(), meta=dict(case["pred"].meta))
    writer = SaveImageAndRecordd(["pred", "source"], tmp_path, suffix=["_seg", "_source"])
    saved = writer({**case, "made_from": "f" * 64})
    masks = ["A_Case07_seg.nii.gz", "A_Case07_source.nii.gz"]
    assert {*masks, "A_Case07_record.json"} < {*os.listdir(tmp_path)}
    output = json.loads((tmp_path / "A_Case07_record.json").read_text())["output"]
    assert [output["file"], *(item["file"] for item in output["more"])] == masks
    for name, digest in list_masks([Path(saved["record_file"])]).items():
        voxels = np.asarray(nib.Nifti1Image.from_filename(tmp_path / name).dataobj)
        assert hashlib.sha256(np.ascontiguousarray(voxels).tobytes()).hexdigest() == digest
    assert output["made_from"] == "f" * 64


def test_a_second_writer_of_the_same_mask_writes_nothing(tmp_path, case):
    writer = SaveImageAndRecordd("pred", tmp_path / "out")
    saved = writer(case)
    before = {path: path.stat().st_ino for path in (tmp_path / "out").iterdir()}
    assert writer(saved).keys() == saved.keys()
    assert {path: path.stat().st_ino for path in (tmp_path / "out").iterdir()} == before


@pytest.mark.parametrize("suffix", ["_seg", "_mask"])
def test_a_second_writer_of_another_mask_is_refused(tmp_path, case, suffix):
    saved = SaveImageAndRecordd("pred", tmp_path / "out")(case)
    if suffix == "_seg":
        saved["pred"] = MetaTensor(1 - case["pred"].as_tensor(), meta=dict(case["pred"].meta))
    with pytest.raises(OutputError, match=r"must be written once, .* Leave one writer"):
        SaveImageAndRecordd("pred", tmp_path / "out", suffix=suffix)(saved)


def test_monai_deploy_knows_the_writer_as_one():
    assert "SaveImage" in SaveImageAndRecordd.__name__


UNPACK = {
    "engine": lambda pred: decollate_batch(pred)[0],
    "MONAI Label": lambda pred: pred[0],
    "MONAI Deploy": lambda pred: next(iter(pred)),
}


@pytest.mark.parametrize("unpack", UNPACK.values(), ids=UNPACK)
@pytest.mark.parametrize("record", [RECORD, [RECORD]])
def test_record_and_source_are_lifted_however_a_host_unpacks_its_batch(unpack, record):
    source = torch.rand(1, 2, 3, 4, 5)
    maps = torch.arange(120, dtype=torch.uint8).reshape(1, 2, 3, 4, 5)
    meta = {"grata": record, "grata_source": source, "grata_maps": maps}
    pred = unpack(MetaTensor(torch.rand(1, 2, 3, 4, 5), meta=meta))
    before = dict(pred.meta)
    lifted = LiftRecordd("pred")({"pred": pred})
    assert lifted["grata"] == RECORD
    assert torch.equal(lifted["source"].as_tensor(), source[0])
    assert torch.equal(lifted["maps"].as_tensor(), maps[0])
    assert torch.equal(lifted["pred"].as_tensor(), pred.as_tensor())
    assert not {"grata", "grata_source", "grata_maps"} & set(lifted["pred"].meta)
    assert before.keys() == pred.meta.keys()


def test_nothing_to_lift_changes_nothing():
    pred = MetaTensor(torch.rand(2, 3, 4, 5), meta={"a": 1})
    lifted = LiftRecordd("pred")({"pred": pred, "case": "a"})
    assert set(lifted) == {"pred", "case"}
    assert lifted["pred"].meta["a"] == 1
    assert set(LiftRecordd("pred")({"pred": torch.rand(2, 3)})) == {"pred"}


def test_the_whole_way_from_collated_logits_to_files(tmp_path):
    shape = (12, 10, 8)
    voxels = np.random.default_rng(0).integers(0, 99, shape).astype("i2")
    nib.save(nib.Nifti1Image(voxels, AFFINE), tmp_path / "a.nii.gz")
    preprocessing = Compose(
        [
            LoadImageCheckedd("image"),
            Orientationd("image", axcodes="RAS", labels=(("L", "R"), ("P", "A"), ("I", "S"))),
            SafeSpacingd("image", pixdim=(1.0, 1.0, 2.0)),
        ]
    )
    postprocessing = Compose(
        [
            LiftRecordd("pred"),
            AsDiscreted(["pred", "source"], argmax=True),
            Invertd(["pred", "source"], orig_keys="image", transform=preprocessing),
            SaveImageAndRecordd("pred", tmp_path / "out"),
        ]
    )
    batch = list_data_collate([preprocessing({"image": str(tmp_path / "a.nii.gz"), "case": "a"})])
    pred = MetaTensor(torch.rand(1, 2, *batch["image"].shape[2:]))
    pred.copy_meta_from(batch["image"], copy_attr=True)
    pred.meta["grata"], pred.meta["grata_source"] = RECORD, pred.as_tensor().clone()
    (item,) = decollate_batch({**batch, "pred": pred})
    saved = postprocessing(item)
    assert nib.Nifti1Image.from_filename(saved["mask_file"]).shape == shape
    np.testing.assert_allclose(
        nib.Nifti1Image.from_filename(saved["mask_file"]).affine, AFFINE, atol=1e-5
    )
    assert torch.equal(saved["source"].as_tensor(), saved["pred"].as_tensor())
