"""Read DICOM: find the volumes of a folder tree, and decode them, or say why they are rejected.

This file imports nothing, because the subprocess that parses untrusted bytes imports the package.
"""

__all__: list[str] = []
