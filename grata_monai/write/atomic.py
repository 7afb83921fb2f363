"""Moved to `grata_monai.core.files`, kept for published bundles until 0.2."""

from grata_monai.core.files import ensure_writable

__all__ = ["ensure_writable"]
