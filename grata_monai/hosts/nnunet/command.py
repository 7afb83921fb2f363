"""The command line's ``nnunet``: options, call, report.

Imports what it calls only when it is called, so that ``--help`` needs no deep-learning framework.
"""

import argparse
import contextlib
import io
import re
from pathlib import Path

from grata_monai.hosts.shell import EXIT_NOT_ALL, EXIT_OK, begin_to_log, describe_done

__all__ = ["add_nnunet_options", "run_command"]

CHECKPOINT = "checkpoint_final.pth"
DEFAULT = "clinical"


def add_nnunet_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``nnunet`` to its parser; short ones are those of ``nnUNetv2_predict``."""
    parser.add_argument(
        "-i", dest="path", type=Path, required=True, metavar="IN",
        help="a folder of <case>_0000 images, one image, or DICOM files in any tree",
    )  # fmt: skip
    parser.add_argument(
        "-o", dest="out", type=Path, required=True, metavar="OUT", help="folder for masks, records"
    )
    parser.add_argument(
        "-m", dest="model", type=Path, required=True, metavar="MODEL_FOLDER",
        help="a trained folder: plans.json, dataset.json, fold_0, ...",
    )  # fmt: skip
    parser.add_argument(
        "-f", dest="folds", nargs="+", default=[], metavar="FOLD", type=_read_fold,
        help="numbers, or all (default: every numbered fold that is there)",
    )  # fmt: skip
    parser.add_argument(
        "-chk", dest="checkpoint", default=CHECKPOINT, metavar="FILE",
        help=f"in each fold (default: {CHECKPOINT})",
    )  # fmt: skip
    parser.add_argument(
        "-step_size", type=float, default=0.5, metavar="SHARE",
        help="of nnU-Net's window (default: 0.5)",
    )  # fmt: skip
    parser.add_argument(
        "--disable_tta", action="store_true", help="no mirror images of the whole image"
    )
    parser.add_argument(
        "--recipe", default=DEFAULT, metavar="NAME",
        help=f"{DEFAULT} (default), views, paper, source, or a .json file, such as calibrate's",
    )  # fmt: skip
    parser.add_argument("--method", default="grata", metavar="NAME", help="what adapts")
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda, ...")
    parser.add_argument("--dicom", action="store_true", help="refuse what is no DICOM series")
    parser.add_argument(
        "--orientation", type=_read_orientation, metavar="CODES",
        help="how training's images lay, such as RAS, for DICOM series (default: as by dcm2niix)",
    )  # fmt: skip
    parser.add_argument(
        "--segments", type=Path, metavar="FILE", help="codes of the labels, for DICOM objects"
    )
    parser.add_argument("--again", action="store_true", help="do again what is done")
    parser.add_argument(
        "--unverified", action="store_true", help="do not hold the folder to its manifest"
    )
    parser.add_argument(
        "--trust", action="store_true",
        help="run code that the folder brings: pickles, classes of any package",
    )  # fmt: skip
    parser.set_defaults(run=run_command)


def run_command(arguments: argparse.Namespace) -> tuple[str, int]:
    """Segment everything that was given with a trained nnU-Net.

    Args:
        arguments: With the options of `add_nnunet_options`.

    Returns:
        The report, and the exit status: 1 if a series was refused or a case failed.

    Raises:
        GrataError: If nothing can be segmented at all.
        ValueError: If an option is wrong.
        ModuleNotFoundError: Without nnunetv2.
    """
    begin_to_log()

    from grata_monai.adapt.recipe import resolve_recipe  # noqa: PLC0415
    from grata_monai.bundle.network import choose_device  # noqa: PLC0415
    from grata_monai.bundle.settings import read_recipe  # noqa: PLC0415
    from grata_monai.nnunet.folder import read_folder  # noqa: PLC0415
    from grata_monai.nnunet.options import Options  # noqa: PLC0415

    chosen = read_recipe(arguments.recipe)
    options = Options(
        recipe=resolve_recipe(chosen.get("recipe", DEFAULT)),
        method=arguments.method,
        device=choose_device(arguments.device),
        step_size=arguments.step_size,
        is_mirrored=not arguments.disable_tta,
        profile=chosen.get("profile"),
    )
    folder = read_folder(
        arguments.model,
        folds=arguments.folds,
        checkpoint=arguments.checkpoint,
        trust=arguments.trust,
        unverified=arguments.unverified,
    )

    with contextlib.redirect_stdout(io.StringIO()):  # nnU-Net says what it lacks for training
        from grata_monai.hosts.nnunet.run import Asked, run_nnunet  # noqa: PLC0415

    asked = Asked(
        path=arguments.path,
        output_dir=arguments.out.expanduser().absolute(),
        options=options,
        only_dicom=arguments.dicom,
        orientation=arguments.orientation or "",
        segments=arguments.segments,
        again=arguments.again,
    )
    done = run_nnunet(folder, asked)
    missing = len(done.failures) + len(done.refusals)
    return describe_done(done, arguments.out), EXIT_NOT_ALL if missing else EXIT_OK


def _read_fold(text: str) -> str:
    if text != "all" and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a number or all, got {text!r}")
    return text


def _read_orientation(text: str) -> str:
    codes = text.upper()
    if not re.fullmatch("[RLAPSI]{3}", codes) or len({_axis(code) for code in codes}) < 3:
        raise argparse.ArgumentTypeError(f"must be three letters such as RAS, got {text!r}")
    return codes


def _axis(code: str) -> int:
    return next(index for index, pair in enumerate(("RL", "AP", "SI")) if code in pair)
