"""A new DICOM object is one function and one entry: it is offered, written, recorded, described."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from monai.data import MetaTensor

from grata_monai.record.types import BundleVerification, Environment, Precision
from grata_monai.write.dicom.instance import save_instance
from grata_monai.write.dicom.objects import Kind, make_object
from grata_monai.write.dicom.outputs import OUTPUTS, DicomOutput
from grata_monai.write.dicom.save import OutputOptions, SaveDicomd
from grata_monai.write.dicom.uids import instance_uid
from tools.compliance.dicom_tables import render_objects

pytestmark = pytest.mark.slow

NOTE = Kind("1.2.840.10008.5.1.4.1.1.66", modality="OT", series_number=9009, description="note")


def write_note(case, *, path):
    """Write a Raw Data object with the name of the case's first segment."""
    uid = instance_uid("note", volume=case.volume, record=case.record)
    made = make_object(NOTE, case, uid=uid)
    made.ImageComments = f"{case.segments[0].label} of {case.segmentation.sop_instance_uid}"
    return save_instance(made, path)


@pytest.fixture
def toy(monkeypatch):
    """The one entry."""
    monkeypatch.setitem(OUTPUTS, "note", DicomOutput("note", "NOTE", write_note))


@pytest.fixture
def save(make_volume, masks, segments, record, tmp_path):
    """Save the fixtures' mask with these objects as a bundle does; gives the case's folder."""

    def run(also, record=record, notes=()):
        volume = replace(make_volume(), notes=notes)
        label_map = MetaTensor(
            torch.as_tensor(masks.transpose(2, 1, 0)[None].copy()),
            affine=torch.as_tensor(volume.affine_ras),
        )
        write = SaveDicomd("pred", [volume], segments, tmp_path, {"also": also})
        data = {"pred": label_map, "case": volume.name, "grata": record.to_json()}
        return Path(write(data)["output_folder"])

    return run


@pytest.mark.usefixtures("toy")
def test_a_registered_object_is_written_and_recorded(save, record):
    folder = save(["note"])
    note = pydicom.dcmread(folder / "note.dcm")
    segmentation = pydicom.dcmread(folder / "segmentation.dcm")
    assert note.ImageComments == f"prostate of {segmentation.SOPInstanceUID}"
    assert note.PatientID == "P-1"
    assert note.SeriesDescription == "RESEARCH USE ONLY: note"
    assert note.DeviceSerialNumber == record.weights.before[:16]
    objects = json.loads((folder / "record.json").read_text())["dicom"]["objects"]
    assert [item["file"] for item in objects] == ["segmentation.dcm", "note.dcm"]
    assert objects[1]["sop_instance_uid"] == note.SOPInstanceUID


@pytest.mark.usefixtures("toy")
def test_a_registered_object_is_in_the_conformance_tables(repository):
    tables = render_objects(repository)
    assert "| NOTE | Raw Data Storage | `1.2.840.10008.5.1.4.1.1.66` | OT | 9009 |" in tables
    assert "| `also` `note` |" in tables


@pytest.mark.usefixtures("toy")
def test_what_is_not_registered_is_refused_with_what_is():
    with pytest.raises(ValueError, match="among measurements, rtstruct, capture, report, note,"):
        OutputOptions(also=["none"])
    with pytest.raises(ValueError, match=r"got \['raport'\]\. Did you mean 'report'\?"):
        OutputOptions(also="raport")


@pytest.mark.parametrize("name", ["segmentation", "../a", ""])
def test_a_name_that_is_no_further_file_is_refused(name):
    with pytest.raises(ValueError, match=f"always written, got {name!r}"):
        DicomOutput(name, "X", write_note)


def test_objects_are_written_in_the_order_of_the_registry(save, masks):
    folder = save(["capture", "measurements"])
    objects = json.loads((folder / "record.json").read_text())["dicom"]["objects"]
    files = [item["file"] for item in objects]
    assert files == ["segmentation.dcm", "measurements.dcm", "capture.dcm"]
    pixels = pydicom.dcmread(folder / "segmentation.dcm").pixel_array
    assert int(pixels.sum()) == np.count_nonzero(masks)


BUNDLES = {
    "verified by its manifest, not signed": BundleVerification(
        True, "5" * 64, "", "Größe", "0.1.0"
    ),
    f"verified by its signature; SHA-256 of the public key {'7' * 64}": BundleVerification(
        True, "5" * 64, "", "Größe", "0.1.0", "7" * 64
    ),
    "not verified: asked for": BundleVerification(False, None, "asked for"),
}


@pytest.mark.parametrize("vouching", BUNDLES)
def test_every_object_names_the_bundle_and_who_vouches_for_it(
    save, record, vouching, find_dicom_errors
):
    bundle, plain = BUNDLES[vouching], save(list(OUTPUTS))
    expected = {path.name: find_dicom_errors(path) for path in plain.glob("*.dcm")}
    folder = save(list(OUTPUTS), replace(record, environment=Environment(
        "cpu", Precision("fp32", "fp32"), seed=0, threads=1, bundle=bundle
    )))  # fmt: skip
    assert len(expected) == 1 + len(OUTPUTS)
    for path in folder.glob("*.dcm"):
        made = pydicom.dcmread(path)
        (named,) = (
            item
            for item in made.ContributingEquipmentSequence
            if item.get("ContributionDescription", "").startswith("MONAI bundle")
        )
        assert named.ContributionDescription == f"MONAI bundle, {vouching}"
        assert named.get("ManufacturerModelName", "") == bundle.name
        assert named.get("SoftwareVersions", "") == bundle.version
        assert named.get("DeviceSerialNumber") == bundle.manifest_sha256
        assert find_dicom_errors(path) == expected[path.name]


def test_the_record_says_that_an_identity_may_be_altered(save):
    note = "the patient's text does not fit its character set: it may be altered"
    folder = save([], notes=(note,))
    assert json.loads((folder / "record.json").read_text())["dicom"]["notes"] == [note]
