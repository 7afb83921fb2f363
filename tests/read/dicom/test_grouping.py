from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grata_monai.core.errors import DicomError
from grata_monai.phantom.dicom import SeriesOptions, make_series, write_instances
from grata_monai.read.dicom import headers as headers_module
from grata_monai.read.dicom.grouping import check_alike, check_instances, part_by_type, separate
from grata_monai.read.dicom.headers import Slice, read_headers
from grata_monai.read.dicom.limits import Limits
from grata_monai.read.dicom.stack import make_volume

IMAGE = np.arange(8 * 6 * 6).reshape(8, 6, 6)
AFFINE = np.diag([-1.0, -1.0, 5.0, 1.0])


def run_here(function, requests, **_):
    return map(function, requests)


@pytest.fixture(autouse=True)
def in_process(monkeypatch):
    """Parse without a subprocess, which the tests of the headers and of triage start."""
    monkeypatch.setattr(headers_module, "run_each", run_here)


def make_slices(folder: Path, *edits, options: SeriesOptions | None = None) -> list[Slice]:
    """The phantom's slices once per edit, each a function of a data set and its index."""
    files = []
    for number, edit in enumerate(edits or (lambda dataset, index: None,)):
        instances = make_series(IMAGE, AFFINE, options=options or SeriesOptions())
        for index, dataset in enumerate(instances):
            dataset.SOPInstanceUID = f"1.2.{number}.{index}"
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            edit(dataset, index)
        files += write_instances(instances, folder / str(number))
    found = read_headers(files, limits=Limits())
    return [Slice(header, plane) for header in found for plane in header.planes]


def change_pixels(dataset, index):
    dataset.PixelData = bytes([index + 1]) * len(dataset.PixelData)


def test_acquisitions_per_group_of_slices_stay_one_volume(tmp_path):
    slices = make_slices(tmp_path, lambda d, index: setattr(d, "AcquisitionNumber", index // 2 + 1))
    assert separate(slices) == ([slices], 0)


@pytest.mark.parametrize("keyword", ["AcquisitionNumber", "TemporalPositionIdentifier"])
def test_repetitions_at_the_same_places_are_volumes_of_their_own(tmp_path, keyword):
    def numbered(number):
        def edit(dataset, index):
            setattr(dataset, keyword, number)
            change_pixels(dataset, 10 * number + index)

        return edit

    slices = make_slices(tmp_path, numbered(9), numbered(10), numbered(2))
    parts, dropped = separate(slices)
    assert [len(part) for part in parts] == [6, 6, 6]
    assert dropped == 0
    attribute = {"AcquisitionNumber": "acquisition", "TemporalPositionIdentifier": "temporal"}
    assert [getattr(p[0].plane, attribute[keyword]) for p in parts] == ["2", "9", "10"]


def test_an_equal_copy_with_another_acquisition_number_is_no_volume_of_its_own(tmp_path):
    slices = make_slices(
        tmp_path,
        lambda d, index: setattr(d, "AcquisitionNumber", index // 3 + 1),
        lambda d, index: setattr(d, "AcquisitionNumber", 7),
    )
    parts, dropped = separate(slices[:7])
    assert [len(part) for part in parts] == [6]
    assert dropped == 1


def test_copies_with_equal_pixels_are_dropped_and_counted(tmp_path):
    slices = make_slices(tmp_path, *[lambda dataset, index: None] * 3)
    (part,), dropped = separate(slices)
    assert len(part) == 6
    assert dropped == 12
    assert {item.header.sop_instance_uid for item in part} == {f"1.2.0.{i}" for i in range(6)}


def test_copies_in_implicit_and_explicit_vr_are_equal(tmp_path):
    slices = make_slices(tmp_path / "a")
    options = SeriesOptions(transfer_syntax="1.2.840.10008.1.2")
    slices += make_slices(tmp_path / "b", options=options)
    assert separate(slices)[1] == 6


@pytest.mark.parametrize(
    "edit",
    [change_pixels, lambda dataset, index: setattr(dataset, "RescaleSlope", 2)],
    ids=["pixels", "rescale"],
)
def test_copies_that_differ_are_refused(tmp_path, edit):
    options = SeriesOptions(rescale=(1.0, 0.0))
    slices = make_slices(tmp_path, lambda dataset, index: None, edit, options=options)
    with pytest.raises(DicomError, match=r"at 6 place\(s\) several with different") as caught:
        separate(slices)
    assert caught.value.reason == "conflicting_duplicates"


def test_enhanced_repetitions_are_told_apart_by_their_instance(tmp_path):
    options = SeriesOptions(is_enhanced=True)
    slices = make_slices(tmp_path, lambda d, i: None, change_pixels, options=options)
    parts, _ = separate(slices)
    assert [len({s.header.sop_instance_uid for s in part}) for part in parts] == [1, 1]


def test_types_and_echoes_always_part_volumes(tmp_path):
    def typed(value, echo):
        def edit(dataset, index):
            dataset.ImageType = ["ORIGINAL", "PRIMARY", value]
            dataset.EchoNumbers = echo

        return edit

    slices = make_slices(tmp_path, typed("M", 1), typed("P", 1), typed("P", 2))
    assert [len(part) for part in part_by_type(slices)] == [6, 6, 6]
    assert [len(part) for part in part_by_type(slices[::2])] == [3, 3, 3]


@pytest.mark.parametrize(
    ("keyword", "value", "reason"),
    [
        ("ImageOrientationPatient", [1, 0, 0, 0, 0, -1], "mixed_orientation"),
        ("ImageOrientationPatient", [1, 0, 0, 0, 0.99995, 0.01], "mixed_orientation"),
        ("Rows", 5, "mixed_size"),
        ("PixelSpacing", [1.01, 1], "mixed_spacing"),
        ("FrameOfReferenceUID", "1.2.3", "mixed_frame_of_reference"),
        ("FrameOfReferenceUID", "", "mixed_frame_of_reference"),
        ("PixelRepresentation", 1, "mixed_pixel_format"),
        ("SOPClassUID", "1.2.840.10008.5.1.4.1.1.2", "mixed_pixel_format"),
    ],
)
def test_a_series_whose_images_differ_is_refused(tmp_path, keyword, value, reason):
    def edit(dataset, index):
        if index == 5:
            setattr(dataset, keyword, value)

    slices = make_slices(tmp_path, edit)
    with pytest.raises(DicomError, match="must") as caught:
        check_alike(slices, require_frame_of_reference=True)
    assert caught.value.reason == reason


def test_a_missing_frame_of_reference_may_be_allowed(tmp_path):
    slices = make_slices(tmp_path, lambda d, index: setattr(d, "FrameOfReferenceUID", ""))
    check_alike(slices, require_frame_of_reference=False)
    with pytest.raises(DicomError, match="must have a FrameOfReferenceUID") as caught:
        check_alike(slices, require_frame_of_reference=True)
    assert caught.value.reason == "no_frame_of_reference"


def test_one_uid_for_two_images_is_refused(tmp_path):
    slices = make_slices(tmp_path, lambda d, index: setattr(d, "SOPInstanceUID", f"1.{index // 2}"))
    with pytest.raises(DicomError, match="6 images must have as many SOPInstanceUIDs, found 3"):
        check_instances(slices)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(headers_module, "run_each", run_here)
        return make_slices(tmp_path_factory.mktemp("template"))[0]


def stack(template: Slice, levels, shifts=None):
    """Make a volume of copies of one slice at these levels (mm), moved by these along y."""
    shifts = np.zeros(len(levels)) if shifts is None else shifts
    slices = [
        Slice(
            replace(template.header, sop_instance_uid=f"1.{i}"),
            replace(template.plane, position=(0.0, float(shift), float(level))),
        )
        for i, (level, shift) in enumerate(zip(levels, shifts, strict=True))
    ]
    return make_volume(slices, name="series_0", notes=(), limits=Limits())


@pytest.mark.parametrize(
    ("levels", "reason"),
    [
        ([0], "too_few_slices"),
        ([0, 5, 15, 20], "missing_slices"),
        ([0, 5, 20, 25], "missing_slices"),
        ([0, 10, 15, 25], "missing_slices"),
        ([0, 5, 10, 17], "irregular_spacing"),
        ([0, 5, 10.1, 15], "irregular_spacing"),
        ([0, 1, 2.06, 3], "irregular_spacing"),
        ([0, 5, 5.05, 10], "irregular_spacing"),
        (np.cumsum(np.linspace(4.96, 5.04, 40)), "irregular_spacing"),  # drifts away from a grid
        ([0, 200, 400], "invalid_geometry"),
        ([0, 5, 10.04, 15], ""),
        ([0, 1, 2.04, 3], ""),
    ],
)
def test_slices_lie_on_a_regular_grid_or_are_refused(template, levels, reason):
    if not reason:
        assert len(stack(template, levels).frames) == len(levels)
        return
    with pytest.raises(DicomError, match="must") as caught:
        stack(template, levels)
    assert caught.value.reason == reason


def test_a_displaced_slice_is_refused_and_a_regular_tilt_is_not(template):
    with pytest.raises(DicomError, match=r"displacements up to 0\.3 mm"):
        stack(template, [0, 5, 10, 15], [0, 0.3, 0, 0])
    volume = stack(template, [0, 5, 10, 15], np.tan(np.deg2rad(15)) * np.array([0, 5, 10, 15]))
    assert volume.tilt_degrees == pytest.approx(15)
    assert volume.notes == ("tilted by 15.0°: resampled for the network, mapped back after",)
    with pytest.raises(DicomError, match=r"within 45° of their normal, found 60\.0°"):
        stack(template, [0, 5, 10], np.tan(np.deg2rad(60)) * np.array([0, 5, 10]))


@given(
    order=st.permutations(range(7)),
    spacing=st.floats(0.05, 50),
    start=st.floats(-500, 500),
    tilt=st.floats(-0.5, 0.5),
)
def test_any_regular_stack_gives_its_affine_in_any_order(template, order, spacing, start, tilt):
    levels = start + spacing * np.array(order)
    volume = stack(template, levels, tilt * (levels - start))
    expected = np.eye(4)
    expected[:3, 2] = 0, tilt * spacing, spacing
    expected[2, 3] = start
    np.testing.assert_allclose(volume.affine_lps, expected, atol=1e-9)
