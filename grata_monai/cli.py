"""The command line: parse, call, report; no logic.

Each subcommand has one function that describes its options, called when the subcommand is, and one
that runs it. Both import what they call, so that ``--help`` need not wait for a deep-learning
framework.
"""

import argparse
import sys
from collections.abc import Sequence
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
    for name, (describe, summary) in _COMMANDS.items():
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
    Console().print(render_table(found))
    if arguments.json:
        with atomic_path(arguments.json) as path:
            path.write_text(found.to_json(phi=arguments.phi) + "\n", encoding="utf-8")
    return f"{len(found.volumes)} accepted, {len(found.rejections)} refused"


def _describe_send(parser: argparse.ArgumentParser) -> None:
    from grata_monai.transfer import commands

    commands.add_send_options(parser)
    parser.set_defaults(run=commands.run_send)


def _describe_fetch(parser: argparse.ArgumentParser) -> None:
    from grata_monai.transfer import commands

    commands.add_fetch_options(parser)
    parser.set_defaults(run=commands.run_fetch)


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


def _describe_compare(parser: argparse.ArgumentParser) -> None:
    from grata_monai.experiments.compare import command

    parser.description = (
        "Run methods over labelled cases. What is done stays done: start it again "
        "with the same --out to go on after an interruption."
    )
    command.add_compare_options(parser)
    parser.set_defaults(run=command.run_compare)


def _describe_calibrate(parser: argparse.ArgumentParser) -> None:
    from grata_monai.experiments.calibrate import command

    parser.description = (
        "Choose a recipe for a network on your own labelled source cases, under "
        "scanner shifts. Never give it cases of the hospital where the network shall work."
    )
    command.add_calibrate_options(parser)
    parser.set_defaults(run=command.run_calibrate)


def _describe_benchmark(parser: argparse.ArgumentParser) -> None:
    from grata_monai.experiments.reproduce import command

    parser.description = (
        "Train where it is needed, calibrate on source cases, compare on foreign ones. "
        "What is done stays done: start it again with the same --out to go on."
    )
    command.add_benchmark_options(parser)
    parser.set_defaults(run=command.run_benchmark)


def _describe_lint(parser: argparse.ArgumentParser) -> None:
    from grata_monai.bundle.lint import command

    parser.description = (
        "Check a bundle against the rules of a careful hospital. Nothing of the bundle "
        "is run, except with --zoo."
    )
    command.add_lint_options(parser)
    parser.set_defaults(run=command.run_lint)


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


def _describe_review(parser: argparse.ArgumentParser) -> None:
    from grata_monai.report import command

    parser.description = (
        "Serve a run's reports to a browser on this machine, where masks can be accepted, edited "
        "or rejected with a name. The log only grows: reviews.jsonl."
    )
    command.add_review_options(parser)
    parser.set_defaults(run=command.run_review)


def _describe_label(parser: argparse.ArgumentParser) -> None:
    from grata_monai.hosts.label import command

    command.add_label_options(parser)


def _describe_deploy(parser: argparse.ArgumentParser) -> None:
    from grata_monai.hosts.deploy import command

    parser.description = (
        "Run the bundle as an application of the MONAI Deploy App SDK: DICOM series "
        "in, DICOM Segmentations and records out. INPUT, OUTPUT and the bundle may also come from "
        "HOLOSCAN_INPUT_PATH, HOLOSCAN_OUTPUT_PATH and HOLOSCAN_MODEL_PATH."
    )
    command.add_deploy_options(parser)
    parser.set_defaults(run=command.run_deploy)


def _describe_serve(parser: argparse.ArgumentParser) -> None:
    from grata_monai.service import command

    parser.description = (
        "Receive DICOM series day and night, segment them and deliver the results. "
        "SIGTERM drains; the next start goes on."
    )
    command.add_serve_options(parser)
    parser.set_defaults(run=command.run_serve)


def _describe_service(parser: argparse.ArgumentParser) -> None:
    from grata_monai.service import command

    parser.description = "Look at a service, and steer it; its audit log too."
    command.add_service_options(parser)
    parser.set_defaults(run=command.run_service)


def _describe_segment(parser: argparse.ArgumentParser) -> None:
    from grata_monai.hosts.terminal import command

    parser.description = (
        "Segment every image and every acceptable DICOM series of IN with the network adapted to "
        "it. Start the same command again to go on after an interruption."
    )
    command.add_segment_options(parser)
    parser.set_defaults(run=command.run_segment)


def _describe_nnunet(parser: argparse.ArgumentParser) -> None:
    from grata_monai.hosts.nnunet import command

    parser.description = (
        "Segment images and DICOM series with a trained nnU-Net v2 folder, adapted to every case. "
        "Preprocessing, window, export and file names are nnU-Net's own."
    )
    command.add_nnunet_options(parser)
    parser.set_defaults(run=command.run_command)


def _describe_demo(parser: argparse.ArgumentParser) -> None:
    from grata_monai.hosts.terminal import demo

    parser.description = "Segment a phantom with an endorectal coil; neither data nor GPU needed."
    demo.add_demo_options(parser)
    parser.set_defaults(run=demo.run_demo)


def _describe_check_upgrade(parser: argparse.ArgumentParser) -> None:
    from grata_monai.hosts.terminal import upgrade

    parser.description = (
        "Segment kept cases again, and compare every mask with what an older version wrote."
    )
    upgrade.add_upgrade_options(parser)
    parser.set_defaults(run=upgrade.run_check_upgrade)


_COMMANDS = {
    "segment": (_describe_segment, "segment images and DICOM series, adapted to every case"),
    "nnunet": (_describe_nnunet, "segment with a trained nnU-Net v2, adapted to every case"),
    "demo": (_describe_demo, "segment a phantom, and compare with its exact label"),
    "phantom": (_describe_phantom, "write synthetic pelvic MR cases with exact ground truth"),
    "triage": (
        _describe_triage,
        "say which DICOM volumes a folder holds, and why others are refused",
    ),
    "send": (_describe_send, "send DICOM files to a peer: C-STORE or DICOMweb"),
    "fetch": (_describe_fetch, "fetch a study or series by DICOMweb"),
    "wrap": (_describe_wrap, "make any MONAI bundle adapt to every case"),
    "compare": (
        _describe_compare,
        "run adaptation methods over labelled cases, with paired statistics",
    ),
    "calibrate": (
        _describe_calibrate,
        "choose a recipe on labelled source cases under scanner shifts",
    ),
    "benchmark": (_describe_benchmark, "reproduce a table of the documentation from public data"),
    "lint": (
        _describe_lint,
        "check that a bundle is data only, complete, and as its manifest says",
    ),
    "sign": (_describe_sign, "sign a bundle with a key, offline"),
    "review": (
        _describe_review,
        "serve a run's reports on this machine, and keep what readers decide",
    ),
    "check-upgrade": (_describe_check_upgrade, "segment kept cases again, and say what changed"),
    "label": (_describe_label, "put the bundle into MONAI Label"),
    "deploy": (_describe_deploy, "segment DICOM series as a MONAI Deploy application does"),
    "serve": (_describe_serve, "receive, segment and deliver DICOM series day and night"),
    "service": (_describe_service, "look at a service: status, pause, drain, retry, verify-audit"),
}
"""Of every command: what adds its options, and a line of help."""


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
