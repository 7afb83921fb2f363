"""A segmentation lies on every source frame, reads back equal elsewhere, and is valid."""

import logging
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest

from grata_monai.core.errors import DicomError, OutputError
from grata_monai.write.dicom.instance import NewSeries
from grata_monai.write.dicom.segmentation import SegmentationOptions, write_segmentation
from grata_monai.write.dicom.source import quiet

ORIENTATIONS = ("axial", "sagittal", "coronal", "oblique", "feet-first")


@pytest.fixture
def write(make_case, tmp_path):
    """Write the fixtures' masks, with what the test changes."""

    def run(volume=None, *, kind="BINARY", omit=False, options=None, **changes):
        options = options or SegmentationOptions(kind=kind, omit_empty_frames=omit)
        case = make_case(volume, **changes)
        return write_segmentation(case, path=tmp_path / "seg.dcm", options=options)

    return run


@pytest.fixture(scope="session")
def probabilities(masks):
    """Of both segments; multiples of 1/255, which FRACTIONAL keeps exactly."""
    levels = np.random.default_rng(0).integers(0, 256, (2, *masks.shape))
    return (levels / 255).astype(np.float32)


def read_quietly(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return hd.seg.segread(path)


def stored_planes(path):
    """Segment number, position and pixels of every stored frame, as pydicom alone reads them."""
    dataset = pydicom.dcmread(path)
    pixels = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    for group, plane in zip(dataset.PerFrameFunctionalGroupsSequence, pixels, strict=True):
        yield group, tuple(group.PlanePositionSequence[0].ImagePositionPatient), plane


@pytest.mark.parametrize("is_enhanced", [False, True])
@pytest.mark.parametrize("tilt", [0, 15])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_every_source_frame_gets_its_mask_position_and_reference(
    make_volume, masks, write, orientation, tilt, is_enhanced
):
    volume = make_volume(orientation, is_enhanced=is_enhanced, tilt=tilt)
    dataset = pydicom.dcmread(write(volume).path)
    planes = dataset.pixel_array
    shared = dataset.SharedFunctionalGroupsSequence[0]
    cosines = shared.PlaneOrientationSequence[0].ImageOrientationPatient
    measures = shared.PixelMeasuresSequence[0]
    assert dataset.FrameOfReferenceUID == volume.frame_of_reference_uid
    assert np.allclose(cosines, [*volume.row_direction, *volume.column_direction], atol=1e-12)
    assert measures.PixelSpacing == [0.75, 0.5]
    assert float(measures.SpacingBetweenSlices) == pytest.approx(3)
    seen = set()
    groups = dataset.PerFrameFunctionalGroupsSequence
    for group, plane in zip(groups, planes, strict=True):
        number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        (reference,) = group.DerivationImageSequence[0].SourceImageSequence
        key = reference.ReferencedSOPInstanceUID, reference.get("ReferencedFrameNumber", 1)
        (index,) = (i for i, f in enumerate(volume.frames) if (f.sop_instance_uid, f.number) == key)
        position = group.PlanePositionSequence[0].ImagePositionPatient
        assert np.allclose(position, volume.frames[index].position_lps, atol=1e-9)
        assert reference.ReferencedSOPClassUID == volume.sop_class_uid
        assert reference.SpatialLocationsPreserved == "YES"
        assert np.array_equal(plane, masks[index] == number)
        seen.add((index, number))
    assert seen == {(i, n) for i in range(len(volume.frames)) for n in (1, 2)}
    (series,) = dataset.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == volume.series_uid
    referred = [i.ReferencedSOPInstanceUID for i in series.ReferencedInstanceSequence]
    assert referred == list(dict.fromkeys(f.sop_instance_uid for f in volume.frames))


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_highdicom_reads_the_same_volume(make_volume, masks, write, orientation, kind):
    volume = make_volume(orientation)
    read = read_quietly(write(volume, kind=kind).path).get_volume(combine_segments=True)
    affine = volume.affine_lps[:, [2, 1, 0, 3]]  # highdicom counts frame, row, column
    start = np.linalg.solve(affine, read.affine)  # its order of frames may be ours reversed
    assert np.allclose(np.abs(start[:3, :3]), np.eye(3), atol=1e-9)
    frames = masks if start[0, 0] > 0 else masks[::-1]
    assert np.array_equal(read.array, frames)


@pytest.mark.parametrize("tilt", [0, 15])
@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_highdicom_finds_the_mask_of_every_source_instance(make_volume, masks, write, kind, tilt):
    volume = make_volume("oblique", tilt=tilt)
    read = read_quietly(write(volume, kind=kind).path)
    uids = [frame.sop_instance_uid for frame in volume.frames]
    pixels = read.get_pixels_by_source_instance(uids, combine_segments=True)
    assert np.array_equal(pixels, masks)


def test_highdicom_finds_the_mask_of_every_frame_of_an_enhanced_source(make_volume, masks, write):
    volume = make_volume("coronal", is_enhanced=True)
    read = read_quietly(write(volume).path)
    pixels = read.get_pixels_by_source_frame(
        volume.frames[0].sop_instance_uid,
        [frame.number for frame in volume.frames],
        combine_segments=True,
    )
    assert np.array_equal(pixels, masks)


def test_fractional_keeps_probabilities(make_volume, masks, probabilities, write):
    volume = make_volume()
    read = read_quietly(write(volume, kind="FRACTIONAL", probabilities=probabilities).path)
    uids = [frame.sop_instance_uid for frame in volume.frames]
    pixels = read.get_pixels_by_source_instance(uids)
    assert np.allclose(np.moveaxis(pixels, -1, 0), probabilities, atol=1e-6)


@pytest.mark.parametrize("omit", [False, True])
@pytest.mark.parametrize("orientation", ["axial", "oblique", "feet-first"])
def test_dcmqi_reads_the_same_masks(make_volume, masks, write, tmp_path, orientation, omit):
    tool = shutil.which("segimage2itkimage", path=Path(sys.executable).parent)
    tool = tool or shutil.which("segimage2itkimage")
    if tool is None:
        pytest.skip("dcmqi is not installed; pip install dcmqi")
    volume = make_volume(orientation)
    path = write(volume, omit=omit).path
    out = tmp_path / "dcmqi"
    out.mkdir()
    command = [tool, "--inputDICOM", path, "--outputDirectory", out, "--outputType", "nii"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for number in (1, 2):
        (file,) = out.glob(f"{number}.nii*")
        image = nib.Nifti1Image.from_filename(file)
        voxels = np.argwhere(np.asarray(image.dataobj) > 0)
        expected = np.argwhere(masks == number)[:, ::-1]
        world = nib.affines.apply_affine(image.affine, voxels)
        truth = nib.affines.apply_affine(volume.affine_ras, expected)
        order = [np.lexsort(np.round(points, 3).T) for points in (world, truth)]
        assert np.allclose(world[order[0]], truth[order[1]], atol=1e-3)


@pytest.mark.parametrize("is_empty", [False, True])
@pytest.mark.parametrize("is_enhanced", [False, True])
@pytest.mark.parametrize("tilt", [0, 15])
def test_dciodvfy_finds_no_error_in_binary(
    make_volume, masks, write, find_dicom_errors, tilt, is_enhanced, is_empty
):
    volume = make_volume("oblique", is_enhanced=is_enhanced, tilt=tilt)
    written = write(volume, masks=masks * np.uint8(not is_empty))
    assert find_dicom_errors(written.path) == []


@pytest.mark.parametrize("is_empty", [False, True])
def test_dciodvfy_finds_no_error_in_fractional(probabilities, write, find_dicom_errors, is_empty):
    written = write(kind="FRACTIONAL", probabilities=probabilities * (not is_empty))
    assert find_dicom_errors(written.path) == []


def test_dciodvfy_finds_nothing_wrong_with_a_labelmap_that_it_knows(write, find_dicom_errors):
    errors = find_dicom_errors(write(kind="LABELMAP").path)
    # Label Map Segmentation came in 2023 and counts its background as segment 0
    unknown = ("Information Object Not found", "SegmentNumber not monotonically increasing")
    assert [line for line in errors if not any(text in line for text in unknown)] == []


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP", "FRACTIONAL"])
@pytest.mark.parametrize("omit", [False, True])
def test_an_empty_result_keeps_every_frame(make_volume, masks, write, kind, omit):
    volume = make_volume()
    empty = np.zeros_like(masks)
    nothing = np.zeros((2, *masks.shape), np.float32)
    path = write(volume, kind=kind, omit=omit, masks=empty, probabilities=nothing).path
    per_frame = 1 if kind == "LABELMAP" else 2
    dataset = pydicom.dcmread(path)
    assert dataset.NumberOfFrames == per_frame * len(volume.frames)
    assert not dataset.pixel_array.any()


def test_empty_frames_are_left_out_on_request(make_volume, masks, write):
    stored = list(stored_planes(write(make_volume(), omit=True).path))
    assert len(stored) == 3 + 2  # frames 1-3 hold segment 1, frames 3-4 segment 2
    assert all(plane.any() for _, _, plane in stored)


def test_two_runs_write_the_same_instance_into_the_same_series(make_volume, write):
    one = write()
    first = pydicom.dcmread(one.path)
    two = write()
    second = pydicom.dcmread(two.path)
    assert one.sop_instance_uid == two.sop_instance_uid == first.SOPInstanceUID
    assert first.PixelData == second.PixelData
    assert one.series_uid == two.series_uid == first.SeriesInstanceUID
    groups = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "SegmentSequence"
    assert all(first[keyword] == second[keyword] for keyword in groups)


def test_another_mask_record_or_option_is_another_instance(masks, record, write, probabilities):
    other = masks.copy()
    other[0, 0, 0] = 1
    uids = [
        write().sop_instance_uid,
        write(masks=other).sop_instance_uid,
        write(record=replace(record, recipe_sha256="2" * 64)).sop_instance_uid,
        write(omit=True).sop_instance_uid,
        write(kind="LABELMAP").sop_instance_uid,
        write(kind="FRACTIONAL", probabilities=probabilities).sop_instance_uid,
    ]
    assert len(set(uids)) == len(uids)
    assert all(len(uid) <= 64 for uid in uids)


def test_segments_say_what_they_are_and_how_they_were_found(make_volume, write, record):
    volume = make_volume()
    dataset = pydicom.dcmread(write(volume).path)
    prostate, kidney = dataset.SegmentSequence
    assert prostate.SegmentedPropertyTypeCodeSequence[0].CodeValue == "41216001"
    assert prostate.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "91723000"
    side = kidney.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence
    assert side[0].CodeValue == "7771000"
    assert prostate.SegmentAlgorithmType == "AUTOMATIC"
    algorithm = prostate.SegmentationAlgorithmIdentificationSequence[0]
    assert algorithm.AlgorithmFamilyCodeSequence[0].CodeValue == "123110"
    parameters = algorithm.AlgorithmParameters
    for part in ("recipe=grata", "1" * 64, "steps=5", "outcome=adapted", "a" * 64, "Dice of 0.971"):
        assert part in parameters
    assert prostate.TrackingUID != kidney.TrackingUID
    assert prostate.TrackingID == f"prostate of {volume.name}"
    assert len(prostate.RecommendedDisplayCIELabValue) == 3


def test_the_object_is_marked_and_belongs_to_patient_and_study(write):
    dataset = pydicom.dcmread(
        write(options=SegmentationOptions(series=NewSeries("2.25.7", 42))).path
    )
    assert dataset.SeriesDescription == "RESEARCH USE ONLY: segmentation, adapted"
    assert dataset.PatientID == "P-1"
    assert dataset.PatientName == "Phantom^Ada"
    assert (dataset.SeriesInstanceUID, dataset.SeriesNumber) == ("2.25.7", 42)
    assert dataset.Manufacturer
    assert dataset.ManufacturerModelName == "grata_monai"
    assert dataset.DeviceSerialNumber == "a" * 16
    assert dataset.ContentDescription == "Adapted in 5 steps, Dice with source 0.971."


def test_nothing_about_the_patient_is_logged_or_warned(make_volume, write, caplog, recwarn):
    volume = make_volume()
    with quiet():
        for frame in volume.frames:
            dataset = pydicom.dcmread(frame.file)
            dataset.PatientName = "Phantom^Ada" * 9
            dataset.PatientSex, dataset.StudyDate = "unknown", "20209999"
            dataset.save_as(frame.file)
    caplog.clear()
    with caplog.at_level(logging.DEBUG):
        path = write(volume).path
    assert caplog.text == ""
    assert len(recwarn) == 0
    with quiet():
        assert pydicom.dcmread(path).PatientName == "Phantom^Ada" * 9


def test_a_source_without_frame_of_reference_is_refused(make_volume, write):
    volume = replace(make_volume(), frame_of_reference_uid="")
    with pytest.raises(DicomError, match=r"has none\. Write a structured report") as caught:
        write(volume)
    assert caught.value.reason == "no_frame_of_reference"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"masks": np.zeros((4, 12, 10), np.uint8)}, r"shape \(5, 12, 10\)"),
        ({"masks": np.zeros((5, 12, 10), np.int16)}, "must be uint8"),
        ({"masks": np.full((5, 12, 10), 3, np.uint8)}, "labels up to 2"),
        ({"segments": ()}, "numbered 1, 2, 3"),
        ({"kind": "FRACTIONAL"}, r"probabilities of shape \(2, 5, 12, 10\).* got None"),
        (
            {"kind": "FRACTIONAL", "probabilities": np.full((2, 5, 12, 10), 1.5)},
            r"in \[0, 1\], got values in \[1.5, 1.5\]",
        ),
        (
            {"kind": "FRACTIONAL", "probabilities": np.full((2, 5, 12, 10), np.nan)},
            r"in \[0, 1\], got values in \[nan, nan\]",
        ),
    ],
)
def test_what_does_not_fit_is_refused(write, change, message):
    with pytest.raises(ValueError, match=message):
        write(**change)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="kind must be one of BINARY, LABELMAP, FRACTIONAL"):
        SegmentationOptions(kind="binary")


def test_a_failed_write_leaves_nothing(make_case, tmp_path):
    case = make_case()
    with pytest.raises(OutputError, match="must be writable"):
        write_segmentation(case, path=tmp_path / "no" / "s.dcm")
    assert list(tmp_path.iterdir()) == []
