"""Begin a DICOM object: patient and study of its source, its series, equipment and references."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from pydicom import Dataset
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from grata_monai.read.dicom.volume import DicomVolume
from grata_monai.write.dicom.case import SegmentedCase
from grata_monai.write.dicom.equipment import describe_series, equipment
from grata_monai.write.dicom.instance import NewSeries
from grata_monai.write.dicom.source import is_multiframe, quiet, read_source_headers
from grata_monai.write.dicom.uids import hash_to_uid

__all__ = ["Kind", "make_object", "reference_frames", "reference_series"]

PATIENT, TRIAL = 0x0010, 0x0012  # groups of elements
STUDY = (
    "SpecificCharacterSet",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "StudyDescription",
    "AccessionNumber",
    "ReferringPhysicianName",
)
IMPLEMENTATION_CLASS = hash_to_uid("grata_monai", "implementation class")


@dataclass(frozen=True)
class Kind:
    """What kind of object is made.

    Attributes:
        sop_class_uid: What DICOM calls it.
        modality: Of its series.
        series_number: Of its series, where the caller names none.
        description: Of its series; the mark of research is put before it.
        is_implicit: Whether it is written in Implicit VR Little Endian, whose values may be longer
            than 64 kB, instead of Explicit VR Little Endian.
    """

    sop_class_uid: str
    modality: str
    series_number: int
    description: str
    is_implicit: bool = False


def make_object(
    kind: Kind, case: SegmentedCase, *, uid: str, series: NewSeries | None = None
) -> FileDataset:
    """Begin an object: patient and study of the source, its own series and equipment.

    Args:
        kind: Of the object.
        case: Whose source and record it belongs to.
        uid: The object's SOPInstanceUID.
        series: The series it belongs to; one of its own if not given.

    Returns:
        Patient, study, series, equipment and SOP attributes; the caller adds the rest.

    Raises:
        DicomError: If the source can no longer be read.
    """
    series = series or NewSeries(number=kind.series_number)
    source, now = read_source_headers(case.volume)[0], datetime.now()
    with quiet():
        made = FileDataset("", {}, preamble=bytes(128), file_meta=_file_meta(kind, uid))
        for element in source:
            if element.tag.group in (PATIENT, TRIAL) or element.keyword in STUDY:
                made.add(element)
        made.SOPClassUID, made.SOPInstanceUID = kind.sop_class_uid, uid
        made.InstanceCreationDate = f"{now:%Y%m%d}"
        made.InstanceCreationTime = f"{now:%H%M%S}"
        made.Modality, made.SeriesDescription = kind.modality, describe_series(kind.description)
        made.SeriesInstanceUID, made.SeriesNumber = series.uid_for(uid), series.number
        made.InstanceNumber = series.instance
        maker = equipment(case.record)
        made.Manufacturer = maker["manufacturer"]
        made.ManufacturerModelName = maker["manufacturer_model_name"]
        made.DeviceSerialNumber = maker["device_serial_number"]
        made.SoftwareVersions = maker["software_versions"]
        if maker["contributing_equipment"]:
            made.ContributingEquipmentSequence = maker["contributing_equipment"]
    return made


def _file_meta(kind: Kind, uid: str) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(kind.sop_class_uid)
    meta.MediaStorageSOPInstanceUID = UID(uid)
    meta.TransferSyntaxUID = ImplicitVRLittleEndian if kind.is_implicit else ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS)
    meta.ImplementationVersionName = "GRATA_MONAI"
    return meta


def reference_frames(volume: DicomVolume, indices: Iterable[int]) -> list[Dataset]:
    """Refer to some frames: one item per file, with the frames' numbers where it holds several.

    Args:
        volume: The source.
        indices: Of `volume.frames`.

    Returns:
        Items of an Image SOP Instance Reference.
    """
    numbers: dict[str, list[int]] = {}
    for index in indices:
        frame = volume.frames[index]
        numbers.setdefault(frame.sop_instance_uid, []).append(frame.number)
    items = []
    for uid, frames in numbers.items():
        item = Dataset()
        item.ReferencedSOPClassUID = volume.sop_class_uid
        item.ReferencedSOPInstanceUID = uid
        if is_multiframe(volume):
            item.ReferencedFrameNumber = sorted(frames)
        items.append(item)
    return items


def reference_series(volume: DicomVolume, items: Sequence[Dataset]) -> Dataset:
    """Refer to the source's series, and in it to the instances of `items`.

    Args:
        volume: The source.
        items: Made by `reference_frames`.

    Returns:
        An item of ReferencedSeriesSequence.
    """
    series = Dataset()
    series.SeriesInstanceUID = volume.series_uid
    series.ReferencedInstanceSequence = []
    for item in items:
        instance = Dataset()
        instance.ReferencedSOPClassUID = item.ReferencedSOPClassUID
        instance.ReferencedSOPInstanceUID = item.ReferencedSOPInstanceUID
        series.ReferencedInstanceSequence.append(instance)
    return series
