"""The dicom overlay: a tree of series in; a folder per accepted one, and every refusal, out."""

import json
import re
import shutil
from pathlib import Path

import highdicom as hd
import jsonschema
import nibabel as nib
import numpy as np
import pydicom
import pytest
from monai.engines import SupervisedEvaluator
from pydicom.uid import SegmentationStorage
from pynetdicom import AE, AllStoragePresentationContexts, evt

from grata_monai import segment_dicom
from grata_monai.evaluator import OverlappingEvaluator
from grata_monai.phantom.dicom import SeriesOptions, stored_volume, write_series
from grata_monai.record import Record
from grata_monai.transfer.run import fetch_dataset

FAKE_PATIENT = "PHANTOM"
RECORD_SCHEMA = "docs/reference/record.schema.json"


@pytest.fixture(scope="module")
def tree(tmp_path_factory, render) -> Path:
    """A good series, and one of another study that lacks a slice."""
    folder = tmp_path_factory.mktemp("tree")
    case = render()
    write_series(folder / "a" / "b", case.image, case.affine_ras)
    incomplete = SeriesOptions(seed=1)
    files = write_series(folder / "incomplete", case.image, case.affine_ras, options=incomplete)
    files[3].unlink()
    (folder / "notes.txt").write_text("no DICOM")
    return folder


@pytest.fixture
def nifti(render, save, tmp_path) -> Path:
    """The voxels of the good series as NIfTI."""
    case = render()
    voxels, affine = stored_volume(case.image, case.affine_ras)
    return save(voxels.astype(np.float32), affine, tmp_path / "nifti" / "a.nii.gz")


def read_refused(out: Path) -> list[dict[str, object]]:
    return json.loads((out / "refused.json").read_text())["refused"]


def read_segmentation(folder: Path) -> hd.seg.Segmentation:
    return hd.seg.segread(folder / "segmentation.dcm")


def test_an_accepted_series_gets_a_folder_and_a_refused_one_its_reason(tree, tmp_path, run_bundle):
    out = tmp_path / "out"
    run_bundle(
        "dicom", dataset_dir=str(tree), output_dir=str(out), recipe="source", allow_refused=True
    )
    (folder,) = (path for path in out.iterdir() if path.is_dir())
    assert {path.name for path in folder.iterdir()} == {"segmentation.dcm", "record.json"}
    (refused,) = read_refused(out)
    assert refused["reason"] == "missing_slices"
    assert refused["remedy"]


def test_a_refusal_ends_the_run_with_an_error_after_the_others_are_done(tree, tmp_path, refusal):
    out = tmp_path / "out"
    settings = {"dataset_dir": str(tree), "output_dir": str(out), "recipe": "source"}
    message = refusal("dicom", **settings)
    assert "every series must be accepted, 1 refused" in message
    assert "missing_slices" in message
    assert len(list(out.glob("*/segmentation.dcm"))) == 1
    message = refusal("dicom", **settings, allow_refused=["localizer"])
    assert "missing_slices" in message


def test_the_mask_equals_that_of_the_same_voxels_in_nifti(
    tree, nifti, tmp_path, run_bundle, one_step
):
    settings = {"recipe": one_step}
    run_bundle(dataset_dir=str(nifti), output_dir=str(tmp_path / "n"), **settings)
    mask = np.asarray(nib.Nifti1Image.from_filename(tmp_path / "n" / "a_seg.nii.gz").dataobj)
    run_bundle("dicom", dataset_dir=str(tree / "a"), output_dir=str(tmp_path / "d"), **settings)
    (folder,) = (path for path in (tmp_path / "d").iterdir() if path.is_dir())
    frames = read_segmentation(folder).get_volume(combine_segments=True).array
    assert np.array_equal(np.sort(np.unique(frames)), np.unique(mask))
    assert frames.sum() == mask.sum()
    sources = [pydicom.dcmread(path) for path in (tree / "a").rglob("*") if path.is_file()]
    sources.sort(key=lambda source: source.ImagePositionPatient[2])
    by_frame = read_segmentation(folder).get_pixels_by_source_instance(
        [source.SOPInstanceUID for source in sources], combine_segments=True
    )
    assert np.array_equal(by_frame.transpose(2, 1, 0), mask)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "also"),
    [
        ("BINARY", ["measurements", "capture", "report", "rtstruct"]),
        ("LABELMAP", []),
        ("FRACTIONAL", []),
    ],
)
def test_every_option_writes_its_object(kind, also, tree, tmp_path, run_bundle, repository):
    output = {"also": also, "kind": kind}
    run_bundle(
        "dicom", dataset_dir=str(tree / "a"), output_dir=str(tmp_path / "out"), recipe="source",
        dicom_output=output,
    )  # fmt: skip
    (folder,) = (path for path in (tmp_path / "out").iterdir() if path.is_dir())
    expected = {"segmentation.dcm", "record.json", *(f"{name}.dcm" for name in also)}
    assert {path.name for path in folder.iterdir()} == expected
    made = pydicom.dcmread(folder / "segmentation.dcm")
    assert made.SegmentationType == kind
    record = json.loads((folder / "record.json").read_text())
    jsonschema.validate(record, json.loads((repository / RECORD_SCHEMA).read_text()))
    objects = record["dicom"]["objects"]
    assert {item["file"] for item in objects} == expected - {"record.json"}


def test_nothing_outside_the_dicom_objects_names_patient_or_study(tree, tmp_path, run_bundle):
    out = tmp_path / "out"
    run_bundle(
        "dicom", dataset_dir=str(tree), output_dir=str(out), recipe="source", allow_refused=True
    )
    header = pydicom.dcmread(next((tree / "a").rglob("*.dcm")))
    secrets = [header.StudyInstanceUID, header.SeriesInstanceUID, header.SOPInstanceUID]
    secrets += [str(header.PatientName), str(header.PatientID), header.SeriesDescription]
    texts = [path.read_text() for path in out.rglob("*.json")]
    names = [str(path.relative_to(out)) for path in out.rglob("*")]
    found = [secret for secret in secrets for text in [*texts, *names] if secret in text]
    assert found == []
    assert FAKE_PATIENT in str(header.PatientName)


def test_python_gives_the_same_pixels_as_the_configuration(tree, tmp_path, run_bundle, bundle):
    tiny = {"spacing": [2.4, 2.4, 6.0], "roi_size": [48, 48, 8], "recipe": "source"}
    run_bundle(
        "dicom", dataset_dir=str(tree / "a"), output_dir=str(tmp_path / "one"), recipe="source"
    )
    run = segment_dicom(tree, tmp_path / "two", bundle_dir=bundle, settings=tiny)
    (result,) = run.results
    assert isinstance(result.record, Record)
    assert [refusal.reason.value for refusal in run.refusals] == ["missing_slices"]
    assert run.failures == ()
    one, two = (
        read_segmentation(folder) for folder in (tmp_path / "one" / result.name, result.folder)
    )
    assert one.PixelData == two.PixelData
    assert one.SOPInstanceUID == two.SOPInstanceUID


@pytest.mark.slow
def test_series_give_the_objects_of_a_run_without_overlap(
    render, tmp_path, run_bundle, one_step, monkeypatch
):
    for seed in range(3):
        case, options = render(seed), SeriesOptions(seed=seed)
        write_series(tmp_path / "in" / str(seed), case.image, case.affine_ras, options=options)
    settings = {"dataset_dir": str(tmp_path / "in"), "recipe": one_step}
    settings |= {"dicom_output": {"also": ["report", "capture"], "kind": "BINARY"}}
    run_bundle("dicom", output_dir=str(tmp_path / "overlapping"), **settings)
    monkeypatch.setattr(OverlappingEvaluator, "run", SupervisedEvaluator.run)
    run_bundle("dicom", output_dir=str(tmp_path / "serial"), **settings)
    names = sorted(str(p.relative_to(tmp_path / "serial")) for p in tmp_path.glob("serial/*/*"))
    assert len(names) == 3 * len(["record", "segmentation", "report", "capture"])
    for name in names:
        one, other = tmp_path / "overlapping" / name, tmp_path / "serial" / name
        if name.endswith(".json"):
            assert Record.from_json(one.read_text()).digest == (
                Record.from_json(other.read_text()).digest
            )
        else:
            assert read_lasting(one) == read_lasting(other)


def read_lasting(path: Path) -> tuple[list[str], bytes]:
    """All of an object but when it was made, and a UID that highdicom draws for it alone."""
    dataset = pydicom.dcmread(path)
    passing = re.compile("(Creation|Content) Time|Contribution DateTime|Dimension Organization UID")
    lines = [line for line in str(dataset).splitlines() if not passing.search(line)]
    return lines, dataset.get("PixelData", b"")


@pytest.mark.slow
def test_results_among_the_images_are_neither_images_nor_done_again(
    tree, tmp_path, run_bundle, caplog
):
    shutil.copytree(tree / "a", tmp_path / "all" / "a")
    place = {"dataset_dir": str(tmp_path / "all"), "output_dir": str(tmp_path / "all")}
    run_bundle("dicom", **place, recipe="source")
    (made,) = (tmp_path / "all").glob("*/segmentation.dcm")
    before = made.stat().st_mtime_ns
    with caplog.at_level("INFO", logger="grata_monai"):
        run_bundle("dicom", **place, recipe="source")
    assert "passed over 1 object(s) that earlier runs wrote" in caplog.text
    assert "1 of 1 cases were done already" in caplog.text
    assert made.stat().st_mtime_ns == before
    assert read_refused(tmp_path / "all") == []


def test_a_tree_without_dicom_is_refused(tmp_path, refusal):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("no DICOM")
    settings = {"dataset_dir": str(tmp_path / "in"), "output_dir": str(tmp_path / "out")}
    assert "dataset_dir must hold DICOM files" in refusal("dicom", **settings)


def test_a_tree_of_refused_series_alone_says_so_and_writes_the_reasons(tree, tmp_path, refusal):
    out = tmp_path / "out"
    message = refusal("dicom", dataset_dir=str(tree / "incomplete"), output_dir=str(out))
    assert "missing_slices" in message
    assert len(read_refused(out)) == 1


@pytest.mark.slow
def test_results_are_sent_to_a_peer(tree, tmp_path, run_bundle):
    received = []

    def store(event):
        received.append(event.dataset.SOPClassUID)
        return 0x0000

    peer = AE(ae_title="PEER")
    peer.supported_contexts = AllStoragePresentationContexts
    server = peer.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)]
    )
    try:
        port = server.server_address[1]
        run_bundle(
            "dicom", dataset_dir=str(tree / "a"), output_dir=str(tmp_path / "out"),
            recipe="source", destination=f"dicom://PEER@127.0.0.1:{port}",
        )  # fmt: skip
    finally:
        server.shutdown()
    assert received == [SegmentationStorage]


def test_a_source_and_a_folder_exclude_each_other(tree):
    with pytest.raises(ValueError, match="must not both be given"):
        fetch_dataset(str(tree), source="dicomweb://127.0.0.1:1/dicom-web?study=1.2")
    assert fetch_dataset(str(tree)) == str(tree)
