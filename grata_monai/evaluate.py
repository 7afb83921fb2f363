"""Moved to `grata_monai.experiments.evaluate`, kept for published bundles until 0.2."""

from grata_monai.experiments.evaluate import EvaluationHandler

__all__ = ["EvaluationHandler"]
