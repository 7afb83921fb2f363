"""The command line: parse, call, report; no logic.

A subcommand is a row of one table. What describes and runs it is imported when it is called, so
that ``--help`` need not wait for a deep-learning framework.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from grata_monai.core.arguments import Parser
from grata_monai.core.errors import GrataError

__all__ = ["build_parser", "main", "run"]

_EXIT_OK = 0
_EXIT_REFUSED = 2
_EXIT_INTERRUPTED = 130  # as of a program that SIGINT has ended
_EXTRAS = {
    **dict.fromkeys(("highdicom", "matplotlib", "pydicom", "pynetdicom", "requests"), "dicom"),
    **dict.fromkeys(("holoscan", "monai.deploy"), "deploy,dicom"),
    "model_signing": "sign",
    "nnunetv2": "nnunet",
    "submitit": "slurm",
    **dict.fromkeys(
        ("dbos", "prometheus_client", "sqlalchemy", "starlette", "uvicorn"), "dicom,service"
    ),
    **dict.fromkeys(("cyclonedx", "packageurl", "packaging"), "dev"),
}
"""Libraries that not every installation has, and the extra that brings them."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and report what it did.

    Args:
        argv: Arguments after the program's name; those of the process if None.

    Returns:
        Exit status: 0 after success, 2 if the arguments or the case were refused; `lint` has 1 for
        a bundle that does not pass, `segment` and `deploy` for a series that was refused or a case
        that failed; 130 after Ctrl-C.

    Raises:
        SystemExit: From argparse, after ``--help``, ``--version`` or arguments it cannot parse.
    """
    return run(build_parser(), argv)


def run(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> int:
    """Parse arguments, call what the parser names, and print its report or its refusal.

    Args:
        parser: Whose namespace has ``run``, as `build_parser` makes it.
        argv: Arguments after the program's name; those of the process if None.

    Returns:
        Exit status, as of `main`.
    """
    arguments = parser.parse_args(argv)
    try:
        report = arguments.run(arguments)
    except (GrataError, ValueError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return _EXIT_REFUSED
    except ModuleNotFoundError as error:
        extra = _find_extra(error.name or "")
        if extra is None:
            raise
        print(
            f"error: {error.name} must be installed for this command, it is not. "
            f"Run: pip install 'grata-monai[{extra}]'",
            file=sys.stderr,
        )
        return _EXIT_REFUSED
    except KeyboardInterrupt as stop:
        print(f"stopped{': ' if str(stop) else ''}{stop}", file=sys.stderr)
        return _EXIT_INTERRUPTED
    text, status = report if isinstance(report, tuple) else (report, _EXIT_OK)
    print(text)
    return int(status)


def build_parser() -> argparse.ArgumentParser:
    """Describe every subcommand and its options.

    Returns:
        Parser whose namespace has ``run``, a function from the namespace to the report, or to the
        report and the exit status.
    """
    parser = Parser(
        prog="grata-monai",
        description="GraTa test-time adaptation of MONAI segmentation networks.",
    )
    parser.add_argument("--version", action="version", version=_installed_version())
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, (summary, command) in _COMMANDS.items():
        describe = partial(command.describe, name) if isinstance(command, Command) else command
        commands.add_parser(name, help=summary, describe=describe)
    return parser


def _describe_phantom(parser: argparse.ArgumentParser) -> None:
    parser.description = "Write synthetic pelvic MR cases with exact ground truth, as NIfTI files."
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    parser.add_argument("--cases", type=int, default=1, metavar="N", help="how many (default: 1)")
    parser.add_argument(
        "--shift", default="none", metavar="NAME", help="scanner shift (default: none)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed (default: 0)")
    parser.add_argument(
        "--dicom", action="store_true", help="also write each image as a DICOM series, in series/"
    )
    parser.set_defaults(run=_run_phantom)


def _run_phantom(arguments: argparse.Namespace) -> str:
    from grata_monai.phantom import write_cases

    paths = write_cases(
        arguments.out, cases=arguments.cases, shift=arguments.shift, seed=arguments.seed
    )
    if arguments.dicom:
        from grata_monai.phantom.dicom import SeriesOptions, write_nifti_as_series

        for seed, (image, _) in enumerate(paths, start=arguments.seed):
            folder = arguments.out / "series" / image.name.removesuffix(".nii.gz")
            write_nifti_as_series(image, folder, options=SeriesOptions(seed=seed))
    return f"wrote {len(paths)} cases to {arguments.out}"


def _describe_triage(parser: argparse.ArgumentParser) -> None:
    parser.description = "Look through a folder tree for DICOM volumes. No pixel is decoded."
    parser.add_argument("path", type=Path, metavar="PATH", help="folder tree or file")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result as JSON")
    parser.add_argument("--selection", type=Path, metavar="FILE", help="rules, a .json file")
    parser.add_argument(
        "--phi", choices=("hash", "keep"), default="hash", help="UIDs in the JSON (default: hash)"
    )
    parser.add_argument(
        "--allow-no-frame-of-reference",
        action="store_true",
        help="accept series without FrameOfReferenceUID",
    )
    parser.set_defaults(run=_run_triage)


def _run_triage(arguments: argparse.Namespace) -> str:
    from dataclasses import replace

    from rich.console import Console
    from rich.progress import Progress

    from grata_monai.core.files import atomic_path
    from grata_monai.core.tables import print_unfolded
    from grata_monai.read.dicom.selection import Selection
    from grata_monai.read.dicom.triage import render_table, triage

    rules = Selection.from_json(arguments.selection) if arguments.selection else Selection()
    if arguments.allow_no_frame_of_reference:
        rules = replace(rules, require_frame_of_reference=False)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("headers", total=None)
        found = triage(
            arguments.path,
            selection=rules,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    console = Console()  # only a person at a terminal is told what may name a patient
    table = render_table(found, has_places=console.is_terminal)
    if console.is_terminal:  # long sentences fold there; a file can be searched line by line
        console.print(table)
    else:
        print_unfolded(console, table)
    if arguments.json:
        with atomic_path(arguments.json) as path:
            path.write_text(found.to_json(phi=arguments.phi) + "\n", encoding="utf-8")
    return f"{len(found.volumes)} accepted, {len(found.rejections)} refused"


def _describe_wrap(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Write an overlay that puts GraTaInferer around a MONAI bundle's own inferer."
    )
    parser.add_argument("bundle_dir", type=Path, metavar="BUNDLE_DIR", help="root of the bundle")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="overlay to write, a .json file"
    )
    parser.add_argument(
        "--recipe",
        default="clinical",
        help="recipe's name, or the .json file that calibrate wrote (default: clinical)",
    )
    parser.add_argument(
        "--unverified", action="store_true", help="do not hold the bundle to its manifest"
    )
    parser.set_defaults(run=_run_wrap)


def _run_wrap(arguments: argparse.Namespace) -> str:
    from grata_monai.bundle.wrap import wrap_bundle

    report = wrap_bundle(
        arguments.bundle_dir,
        arguments.out,
        recipe=arguments.recipe,
        unverified=arguments.unverified,
    )
    layers = ", ".join(f"{count} {kind}" for kind, count in report.layers.items()) or "none"
    lines = [
        f"network:              {report.network}, {report.outputs} output channel(s)",
        f"activation:           {report.activation}",
        f"normalisation layers: {layers}",
        f"what will move:       {' + '.join(report.groups)} ({report.count} weights)",
        *(f"note: {note}" for note in report.notes),
        f"wrote {report.overlay}; run",
        f"  {report.command}",
    ]
    return "\n".join(lines)


def _describe_sign(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Sign a bundle that is as its manifest says. Where the environment variable "
        "GRATA_BUNDLE_KEY names the public key, only what it signed is opened."
    )
    parser.add_argument("bundle_dir", type=Path, metavar="BUNDLE", help="root of the bundle")
    parser.add_argument(
        "--key", type=Path, required=True, metavar="FILE", help="private key, PEM, NIST curve"
    )
    parser.set_defaults(run=_run_sign)


def _run_sign(arguments: argparse.Namespace) -> str:
    from grata_monai.bundle.verify import sign_bundle

    return f"signed: {sign_bundle(arguments.bundle_dir, arguments.key)}"


@dataclass(frozen=True)
class Command:
    """A command whose options and work lie in a module of their own.

    Attributes:
        module: Has ``add_NAME_options``, and ``run_NAME`` unless the options say what runs.
        description: Of what it does, below its usage.
    """

    module: str
    description: str

    def describe(self, name: str, parser: argparse.ArgumentParser) -> None:
        """Add the options, and what runs."""
        module, plain = import_module(f"grata_monai.{self.module}"), name.replace("-", "_")
        parser.description = self.description
        parser.set_defaults(run=getattr(module, f"run_{plain}", None))
        getattr(module, f"add_{plain}_options")(parser)


_COMMANDS: dict[str, tuple[str, Command | Callable[[argparse.ArgumentParser], None]]] = {
    "segment": (
        "segment images and DICOM series, adapted to every case",
        Command(
            "hosts.terminal.command",
            "Segment every image and every acceptable DICOM series of IN with the network adapted "
            "to it. Start the same command again to go on after an interruption.",
        ),
    ),
    "nnunet": (
        "segment with a trained nnU-Net v2, adapted to every case",
        Command(
            "hosts.nnunet.command",
            "Segment images and DICOM series with a trained nnU-Net v2 folder, adapted to every "
            "case. Preprocessing, window, export and file names are nnU-Net's own.",
        ),
    ),
    "demo": (
        "segment a phantom, and compare with its exact label",
        Command(
            "hosts.terminal.demo",
            "Segment a phantom with an endorectal coil; neither data nor GPU needed.",
        ),
    ),
    "phantom": ("write synthetic pelvic MR cases with exact ground truth", _describe_phantom),
    "triage": (
        "say which DICOM volumes a folder holds, and why others are refused",
        _describe_triage,
    ),
    "send": (
        "send DICOM files to a peer: C-STORE or DICOMweb",
        Command("transfer.commands", "Send DICOM files to a peer, and say what it stored."),
    ),
    "fetch": (
        "fetch a study or series by DICOMweb",
        Command("transfer.commands", "Fetch DICOM files by DICOMweb."),
    ),
    "wrap": ("make any MONAI bundle adapt to every case", _describe_wrap),
    "compare": (
        "run adaptation methods over labelled cases, with paired statistics",
        Command(
            "experiments.compare.command",
            "Run methods over labelled cases. What is done stays done: start it again with the "
            "same --out to go on after an interruption.",
        ),
    ),
    "calibrate": (
        "choose a recipe on labelled source cases under scanner shifts",
        Command(
            "experiments.calibrate.command",
            "Choose a recipe for a network on your own labelled source cases, under scanner "
            "shifts. Never give it cases of the hospital where the network shall work.",
        ),
    ),
    "benchmark": (
        "reproduce a table of the documentation from public data",
        Command(
            "experiments.reproduce.command",
            "Train where it is needed, calibrate on source cases, compare on foreign ones. What is "
            "done stays done: start it again with the same --out to go on.",
        ),
    ),
    "lint": (
        "check that a bundle is data only, complete, and as its manifest says",
        Command(
            "bundle.lint.command",
            "Check a bundle against the rules of a careful hospital. Nothing of the bundle is run, "
            "except with --zoo.",
        ),
    ),
    "sign": ("sign a bundle with a key, offline", _describe_sign),
    "review": (
        "serve a run's reports on this machine, and keep what readers decide",
        Command(
            "report.command",
            "Serve a run's reports to a browser on this machine, where masks can be accepted, "
            "edited or rejected with a name. The log only grows: reviews.jsonl.",
        ),
    ),
    "check-upgrade": (
        "segment kept cases again, and say what changed",
        Command(
            "hosts.terminal.upgrade",
            "Segment kept cases again, and compare every mask with what an older version wrote.",
        ),
    ),
    "label": (
        "put the bundle into MONAI Label, and take submitted labels out",
        Command("hosts.label.command", "Serve the bundle to 3D Slicer with MONAI Label."),
    ),
    "deploy": (
        "segment DICOM series as a MONAI Deploy application does",
        Command(
            "hosts.deploy.command",
            "Run the bundle as an application of the MONAI Deploy App SDK: DICOM series in, DICOM "
            "Segmentations and records out. INPUT, OUTPUT and the bundle may also come from "
            "HOLOSCAN_INPUT_PATH, HOLOSCAN_OUTPUT_PATH and HOLOSCAN_MODEL_PATH.",
        ),
    ),
    "serve": (
        "receive, segment and deliver DICOM series day and night",
        Command(
            "service.command",
            "Receive DICOM series day and night, segment them and deliver the results. SIGTERM "
            "drains; the next start goes on.",
        ),
    ),
    "service": (
        "look at a service: status, pause, drain, retry, verify-audit",
        Command("service.command", "Look at a service, and steer it; its audit log too."),
    ),
}
"""Of every command: a line of help, and what adds its options."""


def _find_extra(module: str) -> str | None:
    """Find the extra that brings a module; None if no extra does."""
    for library, extra in _EXTRAS.items():
        if f"{module}.".startswith(f"{library}."):
            return extra
    return None


def _installed_version() -> str:
    try:
        return version("grata-monai")
    except PackageNotFoundError:
        return "unknown (not installed; run from a source tree)"
