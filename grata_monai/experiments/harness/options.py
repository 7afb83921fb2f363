"""Options of every experiment that say which network runs: a bundle, other weights, other settings.

Imports what it calls only when it is called, so that ``--help`` needs no deep-learning framework.
"""

import argparse
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from grata_monai.core.errors import WeightsError

__all__ = ["WEIGHTS", "add_network_options", "describe_weights", "read_settings"]

WEIGHTS = "network#weights"
"""Id of the configuration that names the file of weights."""
_SHIPPED = "the package's"


def add_network_options(parser: argparse.ArgumentParser) -> None:
    """Add what says which network runs, and in which precision."""
    parser.add_argument(
        "--network", type=_find_network, default=_SHIPPED, metavar="BUNDLE",
        help="a bundle, or a trained nnU-Net folder (default: the one of this package)",
    )  # fmt: skip
    parser.add_argument(
        "--weights", type=Path, metavar="FILE", help="a state dict in place of the bundle's own"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="ID=VALUE",
        help="any setting of the bundle's configuration, such as \"network_def#norm_name="
        "['batch',{}]\"; repeatable",
    )
    parser.add_argument(
        "--unverified", action="store_true", help="do not hold the bundle to its manifest"
    )
    parser.add_argument("--precision", default="fp32", help="of predictions: fp32, bf16 or fp16")


def read_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Collect what the options of `add_network_options` change in the configuration.

    Args:
        arguments: With these options.

    Returns:
        For `open_bench`; ``--set`` wins over ``--precision``, ``--weights`` over both.

    Raises:
        ValueError: If a setting is not ``ID=VALUE``, or chooses the device.
    """
    from grata_monai.bundle.settings import parse_settings  # noqa: PLC0415

    settings = {"precision": arguments.precision, **parse_settings(arguments.set)}
    if any(id.split("#")[0].split("::")[0] == "device" for id in settings):
        raise ValueError("--set must not choose the device, which reports name. Use --device.")
    if arguments.weights is not None:
        settings[WEIGHTS] = str(arguments.weights.absolute())
    return settings


def describe_weights(settings: Mapping[str, Any]) -> dict[str, str]:
    """Name weights that are not the bundle's own, which no manifest knows.

    Args:
        settings: Of `read_settings`.

    Returns:
        A heading and a text for the facts of a report; nothing for the bundle's own weights.

    Raises:
        WeightsError: If the file cannot be read.
    """
    if WEIGHTS not in settings:
        return {}
    path = Path(settings[WEIGHTS])
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(
            f"weights must be a readable file, {path.name!r} is not: {error.strerror}. "
            "Check the path."
        ) from error
    return {"weights": f"{path.name}, not of the bundle; SHA-256 {digest}"}


def _find_network(text: str) -> Path:
    """Take a bundle's root, by default that of the bundle that comes with the package."""
    if text != _SHIPPED:
        if not Path(text).is_dir():
            raise argparse.ArgumentTypeError(
                f"must be a folder, {Path(text).name!r} is none. Point to a bundle's root, the "
                "folder that has configs/ and models/, or to a trained nnU-Net folder."
            )
        return Path(text)
    from grata_monai.bundle.shipped import find_shipped_bundle  # noqa: PLC0415

    return find_shipped_bundle()
