"""Show a reader what was decided about each case, why, and what to do, in pages of their own."""

from grata_monai.report.handler import ReportHandler
from grata_monai.report.index import write_index
from grata_monai.report.pages import write_case

__all__ = ["ReportHandler", "write_case", "write_index"]
