"""The command line's ``segment``: options, call, report.

Imports what it calls only when it is called, so that ``--help`` needs no deep-learning framework.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grata_monai.hosts.shell import EXIT_NOT_ALL, EXIT_OK, begin_to_log, describe_done
from grata_monai.spread.options import add_worker_options, read_workers

if TYPE_CHECKING:
    from grata_monai.hosts.terminal.run import Asked

__all__ = ["add_how_options", "add_segment_options", "read_asked", "run_segment"]

FAST = "views"


def add_segment_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``segment`` to its parser."""
    parser.add_argument(
        "path", type=Path, metavar="IN",
        help="an image, a folder of images, a data list (.json), or DICOM files in any tree",
    )  # fmt: skip
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for masks and records")
    parser.add_argument(
        "--preview", action="store_true",
        help="also draw every case: <case>_preview.png, or capture.dcm beside DICOM objects",
    )  # fmt: skip
    parser.add_argument(
        "--statistics", action="store_true",
        help="also write volumes and diameters: statistics.json and .csv; for DICOM an SR too",
    )  # fmt: skip
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--dicom", action="store_true", help="refuse what is no DICOM series")
    kind.add_argument("--nifti", action="store_true", help="NIfTI masks for DICOM series too")
    add_how_options(parser)
    add_worker_options(parser)


def add_how_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how a case is segmented."""
    speed = parser.add_mutually_exclusive_group()
    speed.add_argument(
        "--recipe", metavar="NAME", help="clinical (default), views, paper, source, or a .json file"
    )
    speed.add_argument(
        "--fast", action="store_true",
        help=f"look again at the organ, but take no step: the recipe {FAST}",
    )  # fmt: skip
    parser.add_argument("--method", metavar="NAME", help="what adapts (default: grata)")
    parser.add_argument("--device", metavar="NAME", help="auto (default), cpu, cuda, cuda:1, ...")
    parser.add_argument(
        "--bundle", type=Path, metavar="DIR", help="root (default: the one of this package)"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="ID=VALUE",
        help="a setting of the bundle's configuration, VALUE in JSON or text; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--unverified", action="store_true", help="do not hold the bundle to its manifest"
    )


def run_segment(arguments: argparse.Namespace) -> tuple[str, int]:
    """Segment everything that was given.

    Args:
        arguments: With the options of `add_segment_options`.

    Returns:
        The report, and the exit status: 1 if a series was refused or a case failed.

    Raises:
        GrataError: If nothing can be segmented at all.
        ValueError: If an option is wrong.
    """
    from grata_monai.hosts.terminal.run import segment_all  # noqa: PLC0415

    asked = replace(
        read_asked(arguments),
        only="dicom" if arguments.dicom else "nifti" if arguments.nifti else "",
        preview=arguments.preview,
        statistics=arguments.statistics,
        workers=read_workers(arguments),
    )
    done = segment_all(asked)
    return describe_done(done, arguments.out), EXIT_NOT_ALL if done.missing else EXIT_OK


def read_asked(arguments: argparse.Namespace) -> "Asked":
    """Read what to segment, where to and how, and begin to log.

    Args:
        arguments: With ``path``, ``out`` and the options of `add_how_options`.

    Raises:
        BundleError: If the package has no bundle, and none was given.
        ValueError: If an option is wrong.
    """
    begin_to_log()

    from grata_monai.bundle.shipped import find_shipped_bundle  # noqa: PLC0415
    from grata_monai.hosts.terminal.run import Asked  # noqa: PLC0415

    return Asked(
        path=arguments.path,
        out=arguments.out.expanduser().absolute(),
        bundle_dir=arguments.bundle or find_shipped_bundle(),
        settings=_read_settings(arguments),
        unverified=arguments.unverified,
    )


def _read_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    from grata_monai.bundle.settings import parse_settings, read_recipe  # noqa: PLC0415

    recipe = FAST if arguments.fast else arguments.recipe
    options = {
        **read_recipe(recipe),
        "method": arguments.method,
        "device#name": arguments.device,
    }
    given = {key: value for key, value in options.items() if value is not None}
    settings = parse_settings(arguments.set)
    if twice := sorted(given.keys() & settings.keys()):
        raise ValueError(f"{twice[0]} must be given once, got an option and --set. Leave one out.")
    return {**given, **settings}
