"""Show one phantom before and after: Dice with its exact label, and a picture."""

import argparse
from pathlib import Path
from typing import Any

__all__ = ["add_demo_options", "run_demo"]

SHIFT, SEED = "endorectal_coil", 0


def add_demo_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``demo`` to its parser."""
    parser.add_argument(
        "out", nargs="?", type=Path, default=Path("demo_output"), metavar="OUT",
        help="folder for phantom, mask, record and picture (default: demo_output)",
    )  # fmt: skip
    parser.add_argument(
        "--recipe", default="views", metavar="NAME", help="clinical takes longer (default: views)"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="ID=VALUE",
        help="a setting of the bundle's configuration, VALUE in JSON or text; repeatable",
    )  # fmt: skip


def run_demo(arguments: argparse.Namespace) -> str:
    """Make a phantom, segment it, and compare both masks with its label.

    Args:
        arguments: With the options of `add_demo_options`.

    Returns:
        The report; the picture's path comes last.

    Raises:
        OutputError: If the folder cannot be written.
        ValueError: If an option is wrong.
    """
    import nibabel as nib  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415

    from grata_monai.bundle.open import open_bundle  # noqa: PLC0415
    from grata_monai.bundle.settings import parse_settings  # noqa: PLC0415
    from grata_monai.bundle.shipped import find_shipped_bundle  # noqa: PLC0415
    from grata_monai.hosts.python import predict_case  # noqa: PLC0415
    from grata_monai.hosts.terminal.extras import draw_preview, name_labels  # noqa: PLC0415
    from grata_monai.phantom import write_cases  # noqa: PLC0415
    from grata_monai.record import Record  # noqa: PLC0415
    from grata_monai.record.sentences import describe_record  # noqa: PLC0415

    out: Path = arguments.out.absolute()
    ((image, label),) = write_cases(out / "phantom", cases=1, shift=SHIFT, seed=SEED)
    settings = {
        "dataset_dir": str(image),
        "output_dir": str(out),
        "recipe": arguments.recipe,
        "inferer#keep_source": True,
        "masks": ["pred", "source"],
        "report": False,  # the picture is all that is shown
        **parse_settings(arguments.set),
    }
    bundle = open_bundle(find_shipped_bundle(), (), settings)
    (case,) = bundle.get("cases")
    predicted = predict_case(bundle.preprocessing(dict(case)), bundle)
    done: dict[Any, Any] = dict(bundle.writer(bundle.postprocessing(predicted)))
    truth = np.asarray(nib.Nifti1Image.from_filename(label).dataobj) > 0
    before, after = (_dice(done[key][0].numpy() > 0, truth) for key in ("source", "pred"))
    picture = out / f"{case['case']}_preview.png"
    draw_preview(done, bundle, image, picture, names=name_labels(bundle))
    record = Record.from_json(done["grata"])
    lines = (
        f"Dice with the phantom's exact label: {before:.3f} before, {after:.3f} after",
        describe_record(record),
        f"phantom, mask and record: {arguments.out}",
        f"picture of both masks: {arguments.out / picture.name}",
    )
    return "\n".join(lines)


def _dice(one: Any, other: Any) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))
