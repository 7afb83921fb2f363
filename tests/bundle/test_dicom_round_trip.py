"""Phantom → DICOM → bundle → SEG: each source frame holds the mask that was in memory."""

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest
from ignite.engine import Events

from grata_monai.phantom.dicom import SeriesOptions, stored_volume, write_series

pytestmark = pytest.mark.slow

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
ORIENTATIONS = {
    "axial": {},
    "sagittal": {"orientation": "PIL"},
    "coronal": {"orientation": "LIA"},
    "oblique": {"oblique_degrees": 20.0},
    "feet-first": {"orientation": "RPI"},
}


def segment(open_bundle, bundle, folder, out, *overlays):
    """Run the bundle; the mask in memory, as postprocessing leaves it, and its affine."""
    places = {"bundle_root": bundle, "dataset_dir": folder, "output_dir": out}
    settings = {key: str(path) for key, path in places.items()}
    workflow = open_bundle(*overlays, **settings, recipe="source")
    found = []
    evaluator = workflow.parser.get_parsed_content("evaluator")
    evaluator.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: found.extend(engine.state.output)
    )
    workflow.run()
    (case,) = found
    mask = case["pred"]
    assert mask.sum() > 0
    return mask.numpy()[0], mask.affine.numpy()


def frame_affine(header):
    """Column, row and 1 of a frame to RAS in mm, from the header's own elements (PS3.3 C.7.6.2)."""
    cosines = np.asarray(header.ImageOrientationPatient, dtype=np.float64)
    rows, columns = (float(value) for value in header.PixelSpacing)
    steps = [cosines[:3] * columns, cosines[3:] * rows]
    matrix = np.stack([*steps, np.asarray(header.ImagePositionPatient, dtype=np.float64)], axis=1)
    return LPS_TO_RAS[:3, :3] @ matrix


def frames_by_source(out, headers):
    segmentation = hd.seg.segread(next(out.glob("*/segmentation.dcm")))
    return segmentation.get_pixels_by_source_instance(
        [header.SOPInstanceUID for header in headers], combine_segments=True
    )


@pytest.mark.parametrize("tilt", [0.0, 12.0])
@pytest.mark.parametrize("name", ORIENTATIONS)
def test_every_source_frame_gets_the_mask_that_was_in_memory(
    name, tilt, render, open_bundle, bundle, tmp_path
):
    case = render(**ORIENTATIONS[name])
    options = SeriesOptions(tilt_degrees=tilt, is_shuffled=True)
    files = write_series(tmp_path / "in", case.image, case.affine_ras, options=options)
    mask, affine = segment(open_bundle, bundle, tmp_path / "in", tmp_path / "out", "dicom")
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in files]
    frames = frames_by_source(tmp_path / "out", headers)

    compared = 0
    for header, frame in zip(headers, frames, strict=True):
        row, column = np.indices(frame.shape)
        points = frame_affine(header) @ np.stack([column.ravel(), row.ravel(), np.ones(frame.size)])
        index = np.linalg.solve(affine[:3, :3], points - affine[:3, 3:])
        nearest = np.rint(index).astype(int)
        inside = ((nearest >= 0) & (nearest < np.array(mask.shape)[:, None])).all(axis=0)
        # halfway between two voxels either is the nearest
        clear = inside & (np.abs(index - nearest) < 0.49).all(axis=0)
        assert np.array_equal(frame.ravel()[clear], mask[tuple(nearest[:, clear])])
        compared += clear.sum()
    assert compared > 0.9 * frames.size
    if not tilt:
        assert compared == frames.size
        assert frames.sum() == mask.sum()


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_the_same_case_as_nifti_gives_the_same_voxels(
    name, render, save, open_bundle, bundle, tmp_path
):
    case = render(**ORIENTATIONS[name])
    write_series(tmp_path / "dicom", case.image, case.affine_ras)
    voxels, affine = stored_volume(case.image, case.affine_ras)
    save(voxels.astype(np.float32), affine, tmp_path / "nifti" / "a.nii.gz")
    segment(open_bundle, bundle, tmp_path / "nifti", tmp_path / "n")
    expected = np.asarray(nib.Nifti1Image.from_filename(tmp_path / "n" / "a_seg.nii.gz").dataobj)
    mask, from_dicom = segment(open_bundle, bundle, tmp_path / "dicom", tmp_path / "d", "dicom")
    assert np.allclose(from_dicom, affine, atol=1e-4)
    assert np.array_equal(mask, expected)
