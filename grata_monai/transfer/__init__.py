"""Fetch DICOM series from a peer, and send results to one."""

__all__: list[str] = []
