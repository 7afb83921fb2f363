"""The application: triage, segment, write, as a graph of the MONAI Deploy App SDK."""

import os
from pathlib import Path

from holoscan.logger import LogLevel, set_log_level
from monai.deploy.core import AppContext, Application, RuntimeEnv

from grata_monai.hosts.deploy.job import Job, find_bundle
from grata_monai.hosts.deploy.operators import SegmentOperator, TriageOperator, WriteOperator

__all__ = ["SegmentationApplication", "make_context", "run_application"]

# In a MAP these name folders. Without a default: a folder called "input" that happens to lie here
# must not be taken for the patient's images.
VARIABLES = {
    "input": ("HOLOSCAN_INPUT_PATH", ""),
    "output": ("HOLOSCAN_OUTPUT_PATH", ""),
    "model": ("HOLOSCAN_MODEL_PATH", "bundle"),
}


class SegmentationApplication(Application):
    """One folder of DICOM series, one case after the other.

    Args:
        job: What is to be done.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        super().__init__()

    def compose(self) -> None:
        """Connect the operators."""
        triage = TriageOperator(self, job=self.job)
        segment = SegmentOperator(self, job=self.job)
        write = WriteOperator(self, job=self.job)
        self.add_flow(triage, segment, {("case", "case")})
        self.add_flow(segment, write, {("item", "item")})


def make_context(
    *,
    input_dir: Path | None = None,
    output_dir: Path | None = None,
    model_dir: Path | None = None,
) -> AppContext:
    """Find input, output and model as every MAP does: as given, else from ``HOLOSCAN_*_PATH``.

    Args:
        input_dir: DICOM files.
        output_dir: For the results.
        model_dir: The bundle, or a folder with it; without any word of it, ``bundle``.

    Returns:
        The SDK's context, without models: it would take the bundle's folder for a network.

    Raises:
        BundleError: If there is no bundle, or more than one.
        ValueError: If input or output is neither given nor in the environment.
    """
    environment = RuntimeEnv(VARIABLES)
    bundle_dir = find_bundle(model_dir or environment.model)
    given = {"input": input_dir, "output": output_dir, "model": bundle_dir}
    chosen = {key: str(path.absolute()) for key, path in given.items() if path is not None}
    context = AppContext(chosen, environment)
    context.models = None
    for name, path in (("INPUT", context.input_path), ("OUTPUT", context.output_path)):
        if not path:
            raise ValueError(
                f"{name} must be given, it is not. Name the folder, or set HOLOSCAN_{name}_PATH."
            )
    return context


def run_application(job: Job) -> None:
    """Run the graph until the last case is written.

    Holoscan repeats every Python error in lines of its own before it passes it on, so its log is
    off unless ``HOLOSCAN_LOG_LEVEL`` asks for it.

    Args:
        job: What is to be done.

    Raises:
        DatasetError: If the folder does not exist or holds no DICOM file.
        GrataError: If the network or another part of the bundle cannot be built.
    """
    if "HOLOSCAN_LOG_LEVEL" not in os.environ:
        set_log_level(LogLevel.OFF)
    SegmentationApplication(job).run()
