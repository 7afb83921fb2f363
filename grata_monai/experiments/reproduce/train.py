"""Train a part's network, by the bundle's own training configuration."""

import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from monai.transforms import Compose
from monai.utils import set_determinism
from torch import Tensor

from grata_monai.bundle.open import Bundle, open_bundle
from grata_monai.core.files import atomic_path, ensure_writable
from grata_monai.experiments.reproduce.part import Part

__all__ = ["load_labels", "train_network"]

logger = logging.getLogger(__name__)

_SHORT_AVERAGE = 0.02  # share of each new step; over some hundred steps, nothing of the first stays


def train_network(
    part: Part,
    bundle_dir: str | Path,
    out: str | Path,
    *,
    device: str,
    seed: int,
    unverified: bool = False,
) -> Path:
    """Train the network, unless a run before this one did.

    Args:
        part: With training cases.
        bundle_dir: Root of the bundle whose configuration is taken.
        out: Folder for the weights.
        device: ``auto`` or a torch device.
        seed: Of weights, order and augmentation.
        unverified: Do not hold the bundle to its manifest.

    Returns:
        The weights' path.

    Raises:
        BundleError: If the bundle is not as its manifest says; nothing of it was parsed then.
        OutputError: If the folder cannot be written.
    """
    weights = ensure_writable(Path(out)) / "model.pt"
    if weights.exists():
        return weights
    set_determinism(seed)
    try:
        bundle = _open(part, bundle_dir, device, unverified=unverified)
        handlers = bundle.config["training"]["trainer"]["train_handlers"]
        left_out = ("ValidationHandler", "CheckpointSaver")  # nothing is chosen on validation cases
        bundle.set(
            {
                "seed": seed,
                "output_dir": str(out),
                "split": [[dict(case) for case in part.training], []],
                "phantom_cases": [],
                "training#average#momentum": _SHORT_AVERAGE,
                "training#trainer#train_handlers": [
                    handler
                    for handler in handlers
                    if not (isinstance(handler, Mapping) and handler["_target_"] in left_out)
                ],
            }
        )
        bundle.get("training#trainer").run()
        average = bundle.get("training#average").ema_model
        with atomic_path(weights) as path:
            torch.save({key: value.cpu() for key, value in average.state_dict().items()}, path)
    finally:
        set_determinism(None)
    return weights


def load_labels(part: Part, bundle_dir: str | Path, *, unverified: bool = False) -> list[Tensor]:
    """Read the labels of a part's source cases on the network's grid, (1, 1, *s) each."""
    steps = _open(part, bundle_dir, "cpu", unverified=unverified).get("load")
    load = Compose(list(steps))
    return [torch.as_tensor(load(dict(case))["label"])[None] for case in part.source]


def _open(part: Part, bundle_dir: str | Path, device: str, *, unverified: bool) -> Bundle:
    settings = {"device#name": device, **part.settings, **part.training_settings}
    # the training configuration builds the heads' network itself, and has a precision of its own
    others = ("network#", "precision")
    kept = {key: value for key, value in settings.items() if not key.startswith(others)}
    return open_bundle(bundle_dir, ("train",), kept, unverified=unverified)
