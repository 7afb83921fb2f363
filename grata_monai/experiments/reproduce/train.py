"""Train a part's network, by the bundle's own training configuration."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose
from monai.utils import set_determinism
from torch import Tensor

from grata_monai.core.files import atomic_path, ensure_writable
from grata_monai.experiments.reproduce.part import Part

__all__ = ["load_labels", "train_network"]

logger = logging.getLogger(__name__)

_CONFIGS = ("inference.json", "train.json")
_SHORT_AVERAGE = 0.02  # share of each new step; over some hundred steps, nothing of the first stays


def train_network(
    part: Part, bundle_dir: str | Path, out: str | Path, *, device: str, seed: int
) -> Path:
    """Train the network, unless a run before this one did.

    Args:
        part: With training cases.
        bundle_dir: Root of the bundle whose configuration is taken.
        out: Folder for the weights.
        device: ``auto`` or a torch device.
        seed: Of weights, order and augmentation.

    Returns:
        The weights' path.

    Raises:
        OutputError: If the folder cannot be written.
    """
    weights = ensure_writable(Path(out)) / "model.pt"
    if weights.exists():
        return weights
    set_determinism(seed)
    try:
        parser = _parse(part, bundle_dir, device)
        parser["seed"] = seed
        parser["output_dir"] = str(out)
        parser["split"] = [[dict(case) for case in part.training], []]
        parser["phantom_cases"] = []
        parser["training#average#momentum"] = _SHORT_AVERAGE
        handlers = parser["training#trainer#train_handlers"]
        left_out = ("ValidationHandler", "CheckpointSaver")  # nothing is chosen on validation cases
        parser["training#trainer#train_handlers"] = [
            handler
            for handler in handlers
            if not (isinstance(handler, Mapping) and handler["_target_"] in left_out)
        ]
        parser.get_parsed_content("training#trainer").run()
        average = parser.get_parsed_content("training#average").ema_model
        with atomic_path(weights) as path:
            torch.save({key: value.cpu() for key, value in average.state_dict().items()}, path)
    finally:
        set_determinism(None)
    return weights


def load_labels(part: Part, bundle_dir: str | Path) -> list[Tensor]:
    """Read the labels of a part's source cases on the network's grid, (1, 1, *s) each."""
    steps = _parse(part, bundle_dir, "cpu").get_parsed_content("load")
    load = Compose(list(steps))
    return [torch.as_tensor(load(dict(case))["label"])[None] for case in part.source]


def _parse(part: Part, bundle_dir: str | Path, device: str) -> Any:
    parser = ConfigParser()
    parser.read_config([Path(bundle_dir) / "configs" / name for name in _CONFIGS])
    given: Sequence[Mapping[str, Any]] = (part.settings, part.training_settings)
    parser.update({"bundle_root": str(Path(bundle_dir).absolute()), "device#name": device})
    for settings in given:
        # the heads' network is built by the training configuration itself
        parser.update({k: v for k, v in settings.items() if not k.startswith("network#")})
    return parser
