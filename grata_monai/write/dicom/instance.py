"""Write one DICOM instance to a file, and say what was written."""

from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset

from grata_monai.core.files import atomic_path
from grata_monai.write.dicom.source import quiet
from grata_monai.write.dicom.uids import series_uid

__all__ = ["Instance", "NewSeries", "save_instance"]


@dataclass(frozen=True)
class NewSeries:
    """The series that an instance belongs to.

    Attributes:
        uid: SeriesInstanceUID; empty to let it follow from the object's UID.
        number: SeriesNumber; above those of scanners, so that results come last.
        instance: InstanceNumber in it.
    """

    uid: str = ""
    number: int = 9001
    instance: int = 1

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.number < 1 or self.instance < 1:
            raise ValueError(
                f"series and instance numbers must be positive, got {self.number} and "
                f"{self.instance}. Count from 1."
            )

    def uid_for(self, sop_instance_uid: str) -> str:
        """The SeriesInstanceUID for an object."""
        return self.uid or series_uid(sop_instance_uid)


@dataclass(frozen=True)
class Instance:
    """One DICOM instance that was written.

    Attributes:
        path: The file.
        sop_class_uid: Its kind.
        sop_instance_uid: The same for the same content.
        series_uid: SeriesInstanceUID.
        study_uid: The source's study.
    """

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    series_uid: str
    study_uid: str


def save_instance(dataset: Dataset, path: str | Path) -> Instance:
    """Write an instance as a DICOM file, whole or not at all.

    Args:
        dataset: With its file meta information.
        path: The file to make or replace; its folder must exist.

    Returns:
        What was written.

    Raises:
        OutputError: If it cannot be written.
    """
    with quiet(), atomic_path(path) as temporary:
        dataset.save_as(temporary, enforce_file_format=True)
    return Instance(
        path=Path(path),
        sop_class_uid=str(dataset.SOPClassUID),
        sop_instance_uid=str(dataset.SOPInstanceUID),
        series_uid=str(dataset.SeriesInstanceUID),
        study_uid=str(dataset.StudyInstanceUID),
    )
