"""Show what a run does: a phantom before and after, a damaged file refused, and their report."""

import argparse
import shutil
from pathlib import Path
from typing import Any

__all__ = ["add_demo_options", "run_demo"]

SHIFT, SEED = "endorectal_coil", 0
DAMAGED = "cut_off.nii.gz"
KEPT_BYTES = 10_000  # of the damaged file


def add_demo_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``demo`` to its parser."""
    parser.add_argument(
        "out", nargs="?", type=Path, default=Path("demo_output"), metavar="OUT",
        help="folder for phantom, mask, record and report (default: demo_output)",
    )  # fmt: skip
    parser.add_argument(
        "--recipe", default="views", metavar="NAME", help="clinical takes longer (default: views)"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="ID=VALUE",
        help="a setting of the bundle's configuration, VALUE in JSON or text; repeatable",
    )  # fmt: skip


def run_demo(arguments: argparse.Namespace) -> str:
    """Make a phantom and a damaged copy, run both, and compare the masks with the exact label.

    Args:
        arguments: With the options of `add_demo_options`.

    Returns:
        Dice of the phantom's masks, and the report's path, behind what the run itself has shown.

    Raises:
        CaseError: If the phantom could not be segmented.
        OutputError: If the folder cannot be written.
        ValueError: If an option is wrong.
    """
    from ignite.engine import Engine, Events  # noqa: PLC0415

    from grata_monai.bundle.open import open_bundle  # noqa: PLC0415
    from grata_monai.bundle.settings import parse_settings  # noqa: PLC0415
    from grata_monai.bundle.shipped import find_shipped_bundle  # noqa: PLC0415
    from grata_monai.core.errors import CaseError  # noqa: PLC0415
    from grata_monai.write.resume import run_cases  # noqa: PLC0415

    out: Path = arguments.out.absolute()
    image, truth = _make_inputs(out / "phantom")
    settings = {
        "dataset_dir": str(image.parent),
        "output_dir": str(out),
        "recipe": arguments.recipe,
        "again": True,
        "inferer#keep_source": True,
        "masks": ["pred", "source"],
        **parse_settings(arguments.set),
    }
    bundle = open_bundle(find_shipped_bundle(), (), settings)
    cases, evaluator = bundle.get("cases"), bundle.get("evaluator")
    lines: list[str] = []

    def compare(engine: Engine) -> None:
        state: Any = engine.state
        for done in state.output:
            before, after = (_dice(done[key][0].numpy() > 0, truth) for key in ("source", "pred"))
            told = f"{before:.3f} before, {after:.3f} after"
            lines.append(f"Dice with the phantom's exact label: {told}")

    evaluator.add_event_handler(Events.ITERATION_COMPLETED, compare)
    run_cases(evaluator, cases=cases, pending=bundle.get("pending"), output_dir=out)
    if not lines:
        raise CaseError("the phantom must be segmented, it was not: see the messages above.")
    shown = arguments.out / "index.html" if bundle.get("report") else arguments.out
    return "\n".join([*lines, f"open in a browser: {shown}"])


def _make_inputs(folder: Path) -> tuple[Path, Any]:
    """Write a phantom, and a copy that broke off; return the image and its exact label."""
    import nibabel as nib  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415

    from grata_monai.phantom import write_cases  # noqa: PLC0415

    shutil.rmtree(folder / "images", ignore_errors=True)
    ((image, label),) = write_cases(folder, cases=1, shift=SHIFT, seed=SEED)
    image.with_name(DAMAGED).write_bytes(image.read_bytes()[:KEPT_BYTES])
    return image, np.asarray(nib.Nifti1Image.from_filename(label).dataobj) > 0


def _dice(one: Any, other: Any) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))
