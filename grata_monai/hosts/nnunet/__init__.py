"""nnU-Net v2 as a host: cases in by its file names or as DICOM, masks and records out."""

__all__: list[str] = []
