"""What was done to a case: typed record, its JSON, its schema, and its sentences for people."""

from grata_monai.record.layout import SCHEMA_VERSION
from grata_monai.record.make import make_record
from grata_monai.record.types import Record

__all__ = ["SCHEMA_VERSION", "Record", "make_record"]
