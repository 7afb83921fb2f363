"""Moved to `grata_monai.hosts.label.answer`, kept for published bundles until 0.2."""

from grata_monai.hosts.label.answer import AnswerRecordd

__all__ = ["AnswerRecordd"]
