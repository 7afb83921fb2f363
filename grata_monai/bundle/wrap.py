"""Bring your own network: put GraTaInferer around any MONAI bundle's own inferer.

The result is an overlay, a small configuration that is merged behind the bundle's own
``configs/inference.json`` when both are given to ``python -m monai.bundle run --config_file``.
"""

import json
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from grata_monai.adapt.network import copy_network
from grata_monai.adapt.parameters import normalisation_layers, resolve_parameters
from grata_monai.adapt.recipe import Recipe, resolve_recipe
from grata_monai.bundle.open import Bundle, open_bundle
from grata_monai.bundle.verify import MANIFEST
from grata_monai.core.errors import NetworkError
from grata_monai.core.files import atomic_path

__all__ = ["WrapReport", "read_activation", "wrap_bundle"]

_RUN_IDS = ("inference", "run", "evaluating", "evaluate")
"""Under which names bundles have their steps, the most usual for inference first."""


@dataclass(frozen=True)
class WrapReport:
    """What wrapping found out about a bundle's network.

    Attributes:
        overlay: Where the overlay was written.
        config_file: The bundle's own inference configuration.
        network: Class of the network.
        layers: Number of normalisation layers by kind.
        groups: Where the moving parameters come from.
        count: Number of scalars that will move.
        notes: What the user should know, one sentence each.
        command: Runs the bundle with the overlay, from any folder.
    """

    overlay: Path
    config_file: Path
    network: str
    layers: Mapping[str, int]
    groups: tuple[str, ...]
    count: int
    notes: tuple[str, ...]
    command: str


def wrap_bundle(
    bundle_dir: Path | str,
    out: Path | str,
    *,
    recipe: str | Mapping[str, Any] = "clinical",
    unverified: bool = False,
) -> WrapReport:
    """Write an overlay that makes a bundle adapt to every case.

    Args:
        bundle_dir: A MONAI bundle with ``configs/inference.json`` (or ``.yaml``).
        out: The overlay's file, ending in ``.json``.
        recipe: A recipe's name or settings, written into the overlay.
        unverified: Do not hold the bundle to its manifest. One without is wrapped in any case,
            with a note: only bundles that went through `lint --write-manifest` have one.

    Returns:
        What will move.

    Raises:
        BundleError: If the bundle has a manifest and is not as it says, and nothing was parsed
            then; or if the folder holds no inference configuration.
        NetworkError: If the configuration has no inferer, one that adapts already, or no network
            that can be built.
        NothingToAdaptError: If the network has nothing that the recipe wants to move.
        RecipeError: If the recipe is wrong.
    """
    settings = resolve_recipe(recipe)
    has_manifest = (Path(bundle_dir) / MANIFEST).exists()
    bundle = open_bundle(bundle_dir, unverified=unverified or not has_manifest)
    with _code_on_path(Path(bundle_dir)):
        network = _build_network(bundle)
    overlay, notes = _make_overlay(bundle.config, recipe)
    groups, count = _find_what_moves(network, settings)
    command = _make_command(bundle, Path(bundle_dir).absolute(), Path(out).absolute())
    with atomic_path(Path(out)) as path:
        path.write_text(json.dumps(overlay, indent=4) + "\n")
    kinds = [type(layer).__name__ for layer in normalisation_layers(network).values()]
    return WrapReport(
        overlay=Path(out),
        config_file=bundle.config_file,
        network=type(network).__name__,
        layers={kind: kinds.count(kind) for kind in sorted(set(kinds))},
        groups=groups,
        count=count,
        notes=(*_note_unverified(bundle), *notes),
        command=command,
    )


def _has_code(bundle_dir: Path) -> bool:
    return any(bundle_dir.rglob("*.py"))


@contextmanager
def _code_on_path(bundle_dir: Path) -> Iterator[None]:
    """Let the configuration import the bundle's own Python, as a run with `PYTHONPATH` does."""
    path = str(bundle_dir.absolute())
    is_added = _has_code(bundle_dir) and path not in sys.path
    if is_added:
        sys.path.insert(0, path)
    try:
        yield
    finally:
        if is_added:
            sys.path.remove(path)


def _make_command(bundle: Bundle, bundle_dir: Path, overlay: Path) -> str:
    """Write the command that runs the bundle's own run id with the overlay."""
    run_id = next((name for name in _RUN_IDS if bundle.config.get(name)), None)
    if run_id is None:
        raise NetworkError(
            f"configuration must define one of {', '.join(_RUN_IDS)} to be run, it has none of "
            "them. Add the bundle's list of steps under one of these names."
        )
    files = [str(Path(bundle.config_file).absolute()), str(overlay)]
    parts = ["python", "-m", "monai.bundle", "run", run_id, "--config_file", str(files)]
    if "bundle_root" in bundle.config:
        parts += ["--bundle_root", str(bundle_dir)]
    prefix = f"PYTHONPATH={shlex.quote(str(bundle_dir))} " if _has_code(bundle_dir) else ""
    return prefix + shlex.join(parts)


def _note_unverified(bundle: Bundle) -> tuple[str, ...]:
    if bundle.verified["is_verified"]:
        return ()
    return (f"the bundle was not held to a {MANIFEST}: its configuration ran unverified.",)


def _build_network(bundle: Bundle) -> nn.Module:
    """Build `network_def` without weights: which parameters exist does not depend on them."""
    try:
        network = bundle.get("network_def")
    except Exception as error:
        raise NetworkError(
            f"network_def of {bundle.config_file.name} must build a network, it raised "
            f"{type(error).__name__}. Check that `python -m monai.bundle run` works unwrapped."
        ) from error
    if not isinstance(network, nn.Module):
        raise NetworkError(
            f"network_def must be a torch module, got {type(network).__name__}. "
            "Wrap a bundle of PyTorch, not of TensorRT or TorchScript."
        )
    return network


def _find_what_moves(network: nn.Module, recipe: Recipe) -> tuple[tuple[str, ...], int]:
    """Resolve the recipe's groups; the input adapter exists only once there is an image."""
    weights = tuple(group for group in recipe.steps.parameters if group != "input")
    adapter = tuple(group for group in recipe.steps.parameters if group == "input")
    if not weights:
        return adapter, 0
    moving = resolve_parameters(copy_network(network), weights)
    return (*moving.groups, *adapter), moving.count


def _make_overlay(
    config: Mapping[str, Any], recipe: str | Mapping[str, Any]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Wrap the bundle's inferer where it stands; keep fp16 autocast out; log and write records."""
    evaluator = config.get("evaluator", {})
    at, original = "inferer", config.get("inferer")
    if original is None:
        at, original = "evaluator#inferer", evaluator.get("inferer")
    if original is None:
        raise NetworkError(
            "configuration must define `inferer` or `evaluator#inferer`, found neither. "
            "Add the bundle's inferer under that name."
        )
    if isinstance(original, Mapping) and str(original.get("_target_")).endswith("GraTaInferer"):
        raise NetworkError(
            "inferer must not be a GraTaInferer yet, this bundle adapts already. "
            "Run it as it is, and choose the recipe with --recipe."
        )
    overlay: dict[str, Any] = {
        at: {"_target_": "grata_monai.GraTaInferer", "inferer": original, "recipe": recipe}
    }
    notes = []
    activation = read_activation(config)
    if activation is None:
        notes.append(
            "no Activationsd or argmax in `postprocessing` tells sigmoid from softmax: several "
            "output channels are taken for softmax. Set `activation` in the overlay if not."
        )
    else:
        overlay[at]["activation"] = activation
    if _follow(config, evaluator.get("amp")):
        overlay["evaluator#amp"] = False
        overlay[at]["precision"] = "fp16"
        notes.append("evaluator#amp is off: GraTaInferer predicts in fp16 autocast itself.")
    handler = {"_target_": "grata_monai.GraTaHandler", "record_dir": "@output_dir"}
    if "output_dir" not in config:
        del handler["record_dir"]
        notes.append("no `output_dir` in the configuration: records are logged, not written.")
    return overlay | _attach_handler(config, handler), tuple(notes)


def _follow(config: Mapping[str, Any], value: Any) -> Any:
    """What a plain reference such as ``@amp`` stands for; other values are themselves."""
    while isinstance(value, str) and value.startswith("@"):
        value = config.get(value[1:])
    return value


def read_activation(config: Mapping[str, Any]) -> str | None:
    """Which activation the bundle's postprocessing puts on the logits; None if it does not say.

    An ``argmax`` without one says softmax: each voxel belongs to one class.
    """
    steps = _follow(config, config.get("postprocessing")) or {}
    for step in steps.get("transforms", ()) if isinstance(steps, Mapping) else steps:
        target = str(step.get("_target_", "")).rsplit(".", 1)[-1]
        if target in ("Activationsd", "Activations"):
            for name in ("sigmoid", "softmax"):
                if _follow(config, step.get(name)) is True:
                    return name
        if target in ("AsDiscreted", "AsDiscrete") and _follow(config, step.get("argmax")) is True:
            return "softmax"
    return None


def _attach_handler(config: Mapping[str, Any], handler: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(config.get("handlers"), list):
        return {"+handlers": [handler]}
    listed = config.get("evaluator", {}).get("val_handlers")
    if isinstance(listed, list):
        return {"+evaluator#val_handlers": [handler]}
    if isinstance(listed, str):
        return {"evaluator#val_handlers": f"${listed} + [@grata_handler]", "grata_handler": handler}
    return {"evaluator#val_handlers": [handler]} if "evaluator" in config else {}
