"""Moved to `grata_monai.hosts.label.options`, kept for published bundles until 0.2."""

from grata_monai.hosts.label.options import TakeOptionsd, list_recipes

__all__ = ["TakeOptionsd", "list_recipes"]
