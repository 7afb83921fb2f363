"""Small DICOM sources in every orientation, volumes made from them by hand, and a record."""

import shutil
import subprocess
from hashlib import sha256
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import Dataset, FileMetaDataset
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage
from records import ADAPTED, KEPT

from grata_monai.read.dicom.volume import DicomVolume, SourceFrame
from grata_monai.record import Record
from grata_monai.write.dicom.case import SegmentedCase
from grata_monai.write.dicom.coded_concepts import Segment, _make_segment

C, S = float(np.cos(np.radians(20))), float(np.sin(np.radians(20)))
ORIENTATIONS = {
    "axial": ((1, 0, 0), (0, 1, 0)),
    "sagittal": ((0, 1, 0), (0, 0, -1)),
    "coronal": ((1, 0, 0), (0, 0, -1)),
    "oblique": ((C, S, 0), (-S * C, C * C, S)),
    "feet-first": ((-1, 0, 0), (0, 1, 0)),
}
SPACING = (0.75, 0.5, 3.0)  # between rows, between columns, between frames
SHAPE = (5, 12, 10)  # frames, rows, columns
PATIENT = {"PatientName": "Phantom^Ada", "PatientID": "P-1", "PatientBirthDate": "19700101"}


def _uid(*parts):
    return f"2.25.{int(sha256(repr(parts).encode()).hexdigest()[:30], 16)}"


def _positions(row, column, tilt):
    """Origins of the frames, from the last to the first along the normal, tilted in the column."""
    normal = np.cross(row, column)
    step = SPACING[2] * (normal + np.tan(np.radians(tilt)) * np.asarray(column))
    return [tuple((np.array([-20.0, 10.5, 30.25]) + i * step).tolist()) for i in range(SHAPE[0])]


def _dataset(sop_class, sop_uid, name):
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = sop_class
    dataset.file_meta.MediaStorageSOPInstanceUID = sop_uid
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, sop_uid
    for keyword, value in PATIENT.items():
        setattr(dataset, keyword, value)
    dataset.PatientSex, dataset.StudyID, dataset.AccessionNumber = "M", "1", "A-1"
    dataset.StudyDate, dataset.StudyTime = "20200102", "030405"
    dataset.ReferringPhysicianName, dataset.Manufacturer = "", "phantom"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = _uid("study"), _uid("series", name)
    dataset.FrameOfReferenceUID = _uid("frame of reference")
    dataset.Modality, dataset.SeriesNumber = "MR", 1
    dataset.Rows, dataset.Columns = SHAPE[1:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    return dataset


def _write_classic(folder, name, row, column, positions):
    for index, position in enumerate(positions):
        dataset = _dataset(MRImageStorage, _uid(name, index), name)
        dataset.ImageOrientationPatient = [f"{x:.12g}" for x in (*row, *column)]
        dataset.ImagePositionPatient = [f"{x:.12g}" for x in position]
        dataset.PixelSpacing, dataset.SliceThickness = list(SPACING[:2]), 2.5
        dataset.InstanceNumber = len(positions) - index
        dataset.PixelData = bytes(2 * SHAPE[1] * SHAPE[2])
        dataset.save_as(folder / f"{index}.dcm", enforce_file_format=True)
    return [(folder / f"{i}.dcm", 1, _uid(name, i)) for i in range(len(positions))]


def _write_enhanced(folder, name, row, column, positions):
    """Two echoes in one object, the second one ours: frames 2, 4, 6 and so on."""
    dataset = _dataset(EnhancedMRImageStorage, _uid(name), name)
    dataset.NumberOfFrames, dataset.InstanceNumber = 2 * len(positions), 1
    measures, orientation, groups = Dataset(), Dataset(), []
    measures.PixelSpacing, measures.SliceThickness = list(SPACING[:2]), 2.5
    orientation.ImageOrientationPatient = [f"{x:.12g}" for x in (*row, *column)]
    shared = Dataset()
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    dataset.SharedFunctionalGroupsSequence = [shared]
    for position in positions:
        for _ in range(2):
            plane, group = Dataset(), Dataset()
            plane.ImagePositionPatient = [f"{x:.12g}" for x in position]
            group.PlanePositionSequence = [plane]
            groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = groups
    dataset.PixelData = bytes(2 * SHAPE[1] * SHAPE[2] * len(groups))
    dataset.save_as(folder / "enhanced.dcm", enforce_file_format=True)
    return [(folder / "enhanced.dcm", 2 * i + 2, _uid(name)) for i in range(len(positions))]


@pytest.fixture(scope="session")
def make_volume(tmp_path_factory):
    """``make_volume("axial", is_enhanced=False, tilt=0)``: the files of a source, as a volume."""

    def make(name="axial", *, is_enhanced=False, tilt=0.0):
        row, column = ORIENTATIONS[name]
        folder = tmp_path_factory.mktemp("source")
        positions = _positions(row, column, tilt)
        write = _write_enhanced if is_enhanced else _write_classic
        files = write(folder, name, row, column, positions)
        return DicomVolume(
            name=sha256(name.encode()).hexdigest()[:12],
            frames=tuple(
                SourceFrame(file, number, uid, position)
                for (file, number, uid), position in zip(files, positions, strict=True)
            ),
            rows=SHAPE[1],
            columns=SHAPE[2],
            row_direction=tuple(map(float, row)),
            column_direction=tuple(map(float, column)),
            row_spacing=SPACING[0],
            column_spacing=SPACING[1],
            study_uid=_uid("study"),
            series_uid=_uid("series", name),
            frame_of_reference_uid=_uid("frame of reference"),
            sop_class_uid=str(EnhancedMRImageStorage if is_enhanced else MRImageStorage),
            transfer_syntax_uids=(str(ExplicitVRLittleEndian),),
            modality="MR",
        )

    return make


@pytest.fixture(scope="session")
def masks():
    """Labels 1 and 2 as blocks that touch no symmetry, (frames, rows, columns)."""
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[1:4, 2:7, 1:4] = 1
    labels[3:5, 8:11, 5:9] = 2
    return labels


@pytest.fixture(scope="session")
def segments() -> tuple[Segment, ...]:
    """Two segments, the second one with a side."""
    return (
        _make_segment({"number": 1, "label": "prostate"}),
        _make_segment({"number": 2, "label": "left kidney"}),
    )


@pytest.fixture(scope="session")
def record() -> Record:
    """Of an adapted case."""
    return ADAPTED


@pytest.fixture(scope="session")
def source_record() -> Record:
    """Of a case whose source prediction was kept."""
    return KEPT


@pytest.fixture(scope="session")
def make_case(make_volume, masks, segments, record):
    """``make_case(volume=None, masks=…)``: the fixtures' case, with what the test changes."""

    def make(volume=None, **changes):
        fields = {"masks": masks, "segments": segments, "record": record, **changes}
        return SegmentedCase(volume=volume or make_volume(), **fields)

    return make


@pytest.fixture(scope="session")
def find_dicom_errors():
    """Errors that David Clunie's dciodvfy finds in a file."""

    def find(path: Path) -> list[str]:
        if shutil.which("dciodvfy") is None:
            pytest.skip("dciodvfy is not installed; apt-get install dicom3tools")
        done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
        return [line for line in done.stderr.splitlines() if line.startswith("Error")]

    return find


@pytest.fixture
def read_back():
    """Read a file as pydicom sees it."""
    return pydicom.dcmread
