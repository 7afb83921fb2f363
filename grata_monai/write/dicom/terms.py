"""Moved to `grata_monai.write.dicom.coded_concepts`, kept for published bundles until 0.2."""

from grata_monai.write.dicom.coded_concepts import read_segments

__all__ = ["read_segments"]
