"""What a reader of any report must know of the run behind it."""

import platform
import shlex
import sys

import torch

__all__ = ["describe_run"]


def describe_run(*, device: str, bundle: str, precision: str, seed: int) -> dict[str, str]:
    """Name the command at hand, and what its figures depend on.

    Args:
        device: Where networks ran.
        bundle: The state of the bundle, of `describe_verified`.
        precision: Of predictions.
        seed: Of everything random.

    Returns:
        Heading to text, in the order in which a report lists them.
    """
    return {
        "command": shlex.join(["python", "-m", "grata_monai", *sys.argv[1:]]),
        "device": f"{device}, {torch.get_num_threads()} thread(s), {platform.machine()}",
        "bundle": bundle,
        "precision of predictions": precision,
        "torch": torch.__version__,
        "seed": str(seed),
    }
