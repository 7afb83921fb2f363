"""Moved to `grata_monai.core.precision`, kept for published bundles until 0.2."""

from grata_monai.core.precision import AutocastInferer

__all__ = ["AutocastInferer"]
