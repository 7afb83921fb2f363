"""Synthetic series, and the volumes that a triage without rules would make of them."""

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from grata_monai.phantom.dicom import SeriesOptions, write_series
from grata_monai.read.dicom.volume import DicomVolume, SourceFrame

SHAPE = (7, 6, 5)
SPACING = (0.75, 1.25, 3.0)
# columns of RAS cosines: along a row of pixels, down a column, from frame to frame
ORIENTATIONS = {
    "axial": [[-1, 0, 0], [0, -1, 0], [0, 0, 1]],
    "sagittal": [[0, 0, -1], [-1, 0, 0], [0, -1, 0]],
    "coronal": [[-1, 0, 0], [0, 0, 1], [0, -1, 0]],
    "feet_first": [[1, 0, 0], [0, -1, 0], [0, 0, -1]],
    "oblique": [[-0.8, 0.36, 0.48], [0, -0.8, 0.6], [0.6, 0.48, 0.64]],
}


@pytest.fixture(scope="session")
def make_affine():
    """Affines of the orientations by their names, RAS in mm."""

    def make(name="axial", spacing=SPACING, origin=(10.0, -20.0, 30.0)):
        affine = np.eye(4)
        affine[:3, :3] = np.asarray(ORIENTATIONS[name], float) * spacing
        affine[:3, 3] = origin
        return affine

    return make


@pytest.fixture(scope="session")
def make_image():
    """Random intensities; every voxel of its own within the bits."""

    def make(shape=SHAPE, *, low=0, high=4095):
        return np.random.default_rng(0).integers(low, high + 1, shape).astype(np.float64)

    return make


@pytest.fixture(scope="session")
def read_frames():
    """A volume from files, by pydicom and arithmetic alone."""

    def read(paths, *, name="volume"):
        found = [frame for path in paths for frame in _list_frames(Path(path))]
        first = dcmread(paths[0], stop_before_pixels=True)
        plane, spacing = found[0][1], found[0][2]
        normal = np.cross(plane[:3], plane[3:])
        frames = sorted((f for f, *_ in found), key=lambda f: float(normal @ f.position_lps))
        return DicomVolume(
            name=name,
            frames=tuple(frames),
            rows=first.Rows,
            columns=first.Columns,
            row_direction=tuple(plane[:3]),
            column_direction=tuple(plane[3:]),
            row_spacing=spacing[0],
            column_spacing=spacing[1],
            study_uid=str(first.StudyInstanceUID),
            series_uid=str(first.SeriesInstanceUID),
            frame_of_reference_uid=str(first.get("FrameOfReferenceUID", "")),
            sop_class_uid=str(first.SOPClassUID),
            transfer_syntax_uids=(str(first.file_meta.TransferSyntaxUID),),
            modality=str(first.Modality),
        )

    return read


@pytest.fixture
def make_volume(tmp_path, make_affine, make_image, read_frames):
    """Write a series and read its frames; also the options that say what it must hold."""

    def make(image=None, affine_ras=None, **options):
        image = make_image() if image is None else image
        affine_ras = make_affine() if affine_ras is None else affine_ras
        chosen = SeriesOptions(**options)
        paths = write_series(tmp_path / "series", image, affine_ras, options=chosen)
        return read_frames(paths)

    return make


def _list_frames(path):
    dataset = dcmread(path, stop_before_pixels=True)
    if "PerFrameFunctionalGroupsSequence" not in dataset:
        return [_read_plane(path, 1, dataset, [dataset])]
    shared = dataset.SharedFunctionalGroupsSequence[0]
    return [
        _read_plane(path, number, dataset, [own, shared])
        for number, own in enumerate(dataset.PerFrameFunctionalGroupsSequence, start=1)
    ]


def _read_plane(path, number, dataset, groups):
    def find(keyword, default=None):
        for group in groups:
            if keyword in group:
                return group[keyword].value
            for element in group:
                if element.VR == "SQ" and len(element.value) and keyword in element.value[0]:
                    return element.value[0][keyword].value
        return default

    frame = SourceFrame(
        file=path,
        number=number,
        sop_instance_uid=str(dataset.SOPInstanceUID),
        position_lps=tuple(map(float, find("ImagePositionPatient"))),
        slope=float(find("RescaleSlope", 1)),
        intercept=float(find("RescaleIntercept", 0)),
    )
    plane = [float(value) for value in find("ImageOrientationPatient")]
    return frame, plane, [float(value) for value in find("PixelSpacing")]
