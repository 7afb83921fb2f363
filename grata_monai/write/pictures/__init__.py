"""Make what a reader looks at: contours on slices, sizes, report pages; independent of DICOM."""

__all__: list[str] = []
