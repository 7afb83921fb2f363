"""Write mask and record, whole or not at all."""

__all__ = ["RESEARCH_ONLY"]

RESEARCH_ONLY = "RESEARCH USE ONLY"
"""The mark on every picture and every DICOM series."""
