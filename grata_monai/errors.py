"""Moved to `grata_monai.core.errors`, kept for callers until 0.2."""

from grata_monai.core import errors
from grata_monai.core.errors import *  # noqa: F403

__all__ = errors.__all__
