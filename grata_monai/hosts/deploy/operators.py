"""Three thin operators: which cases there are, what becomes of a case, where it is written.

The SDK's own operators for these steps are not used; docs/decisions/0012-monai-deploy.md says why.
"""

from typing import Any

from monai.deploy.core import Fragment, Operator, OperatorSpec

from grata_monai.hosts.deploy.job import Job

__all__ = ["SegmentOperator", "TriageOperator", "WriteOperator"]


class TriageOperator(Operator):
    """Look through the folder once, then hand on one accepted volume per tick, as ``case``.

    Args:
        fragment: The application.
        job: What is to be done.
    """

    def __init__(self, fragment: Fragment, *, job: Job) -> None:
        self.job = job
        self.waiting: list[dict[str, str]] | None = None
        super().__init__(fragment, name="triage")

    def setup(self, spec: OperatorSpec) -> None:
        """Declare the output."""
        spec.output("case")

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Hand on the next case; stop after the last one."""
        if self.waiting is None:
            self.waiting = self.job.list_cases()
        if self.waiting:
            op_output.emit(self.waiting.pop(0), "case")
        if not self.waiting:
            self.stop_execution()


class SegmentOperator(Operator):
    """Turn ``case`` into ``item``, with the bundle's preprocessing, inferer and postprocessing.

    Args:
        fragment: The application.
        job: What is to be done.
    """

    def __init__(self, fragment: Fragment, *, job: Job) -> None:
        self.job = job
        super().__init__(fragment, name="segment")

    def setup(self, spec: OperatorSpec) -> None:
        """Declare input and output."""
        spec.input("case")
        spec.output("item")

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Segment one case; a case that fails is noted and not handed on."""
        item = self.job.segment(op_input.receive("case"))
        if item is not None:
            op_output.emit(item, "item")


class WriteOperator(Operator):
    """Write ``item``: a folder with the DICOM Segmentation, the record, and what else is asked.

    Args:
        fragment: The application.
        job: What is to be done.
    """

    def __init__(self, fragment: Fragment, *, job: Job) -> None:
        self.job = job
        super().__init__(fragment, name="write")

    def setup(self, spec: OperatorSpec) -> None:
        """Declare the input."""
        spec.input("item")

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Write one case."""
        self.job.write(op_input.receive("item"))
