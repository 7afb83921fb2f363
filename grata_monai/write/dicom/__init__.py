"""Write DICOM: segmentation, measurements, pictures and contours on the source's own frames."""

__all__: list[str] = []
