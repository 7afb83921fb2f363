"""Register the DICOM objects that a case can get besides its segmentation.

`OUTPUTS` is the only list of them: configuration, error messages and the tables of the conformance
statement read it. A new object is a module with a function like `Writer`, and one entry here.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from grata_monai.write.dicom.capture import write_capture
from grata_monai.write.dicom.case import SegmentedCase
from grata_monai.write.dicom.instance import Instance
from grata_monai.write.dicom.measurements import write_measurements
from grata_monai.write.dicom.report import write_report
from grata_monai.write.dicom.rtstruct import write_rtstruct

__all__ = ["OUTPUTS", "DicomOutput", "Writer"]


@runtime_checkable
class Writer(Protocol):
    """Writes one object of a case to a file."""

    def __call__(self, case: SegmentedCase, *, path: Path) -> Instance:
        """Write the object, whole or not at all.

        Args:
            case: What it is made from.
            path: The file to write; its folder exists.

        Returns:
            What was written.
        """


@dataclass(frozen=True)
class DicomOutput:
    """One kind of DICOM object.

    Attributes:
        name: In ``dicom_output.also``; the file is ``<name>.dcm``.
        label: At most a word, for the heads of tables.
        write: Writes it.

    Raises:
        ValueError: If the name cannot be that of a further file.
    """

    name: str
    label: str
    write: Writer

    def __post_init__(self) -> None:
        """Check the name."""
        if not self.name.isidentifier() or self.name == "segmentation":
            raise ValueError(
                "name must be letters, digits and underscores, and not 'segmentation', which is "
                f"always written, got {self.name!r}. Choose another."
            )


OUTPUTS = {
    output.name: output
    for output in (
        DicomOutput("measurements", "SR", write_measurements),
        DicomOutput("rtstruct", "RTSTRUCT", write_rtstruct),
        DicomOutput("capture", "SC", write_capture),
        DicomOutput("report", "PDF", write_report),
    )
}
"""Every kind by its name, in the order in which they are written."""
