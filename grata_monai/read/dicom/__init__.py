"""DICOM in: which volumes a folder tree holds, their voxels and geometry, or why they are refused.

Light on purpose: a subprocess that decodes untrusted bytes imports this package.
"""

__all__: list[str] = []
