"""The command line's ``deploy``: options, call, report.

Imports what it calls only when it is called, so that ``--help`` needs no deep-learning framework.
"""

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from grata_monai.hosts.python_dicom import DicomRun

__all__ = ["add_deploy_options", "run_deploy"]

EXIT_OK = 0
EXIT_NOT_ALL = 1
LEVELS = ("DEBUG", "INFO", "WARN", "ERROR", "CRITICAL")


def add_deploy_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``deploy`` to its parser; ``-i``, ``-o``, ``-m``, ``-l`` as in any MAP."""
    parser.add_argument("input_dir", nargs="?", type=Path, metavar="INPUT", help="DICOM files")
    parser.add_argument("output_dir", nargs="?", type=Path, metavar="OUTPUT", help="for results")
    parser.add_argument("-i", "--input", type=Path, metavar="DIR", help="the same as INPUT")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="the same as OUTPUT")
    parser.add_argument(
        "-m", "--model", type=Path, metavar="DIR",
        help="the bundle, or a folder with it (default: HOLOSCAN_MODEL_PATH, else bundle)",
    )  # fmt: skip
    parser.add_argument(
        "--set", action="append", default=[], metavar="ID=VALUE",
        help="a setting of the bundle's configuration, VALUE in JSON, Python or text; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--unverified", action="store_true", help="do not hold the bundle to its manifest"
    )
    parser.add_argument(
        "-l", "--log-level", type=str.upper, choices=LEVELS, default="INFO", metavar="LEVEL",
        help="what is logged to standard error (default: INFO)",
    )  # fmt: skip


def run_deploy(arguments: argparse.Namespace) -> tuple[str, int]:
    """Run the MONAI Deploy application over a folder of DICOM files.

    Args:
        arguments: With the options of `add_deploy_options`.

    Returns:
        The report, and the exit status: 1 if a series was refused or a case failed.

    Raises:
        BundleError: If there is no bundle, or it is not as its manifest says.
        DatasetError: If the folder does not exist or holds no DICOM file.
        OutputError: If the output folder cannot be written.
        ValueError: If an option is wrong.
        ModuleNotFoundError: If the App SDK or a DICOM library is not installed.
    """
    from grata_monai.bundle.settings import parse_settings  # noqa: PLC0415
    from grata_monai.hosts.deploy.application import make_context, run_application  # noqa: PLC0415
    from grata_monai.hosts.deploy.job import Job  # noqa: PLC0415

    logging.basicConfig(level=arguments.log_level, format="%(levelname)s %(name)s: %(message)s")
    context = make_context(
        input_dir=_take("INPUT", arguments.input_dir, arguments.input),
        output_dir=_take("OUTPUT", arguments.output_dir, arguments.output),
        model_dir=arguments.model,
    )
    job = Job(
        context.input_path,
        context.output_path,
        bundle_dir=context.model_path,
        settings=parse_settings(arguments.set),
        unverified=arguments.unverified,
    )
    run_application(job)
    report = _describe(job.finish())
    return report, EXIT_OK if job.has_ended_well() else EXIT_NOT_ALL


def _take(name: str, place: Path | None, option: Path | None) -> Path | None:
    if place is not None and option is not None:
        raise ValueError(f"{name} must be given once, got it twice. Leave one of them out.")
    return place if place is not None else option


def _describe(run: "DicomRun") -> str:
    lines = [f"refused {r.name}: {r.reason.value}. {r.remedy}" for r in run.refusals]
    lines += [f"failed {f.case}: {f.reason}. {f.message}" for f in run.failures]
    lines += [f"wrote {result.folder}: {result.record.outcome}" for result in run.results]
    lines.append(
        f"{len(run.results)} segmented, {len(run.refusals)} refused, {len(run.failures)} failed"
    )
    return "\n".join(lines)
