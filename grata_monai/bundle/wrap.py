"""Bring your own network: put GraTaInferer around any MONAI bundle's own inferer.

The result is an overlay, a small configuration that is merged behind the bundle's own
``configs/inference.json`` when both are given to ``python -m monai.bundle run --config_file``.
"""

import json
import shlex
import shutil
import sys
from collections.abc import Mapping
from contextlib import chdir
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from monai.bundle import ConfigComponent, ConfigParser
from monai.inferers import Inferer
from torch import nn

from grata_monai.adapt.parameters import normalisation_layers
from grata_monai.adapt.recipe import Recipe, resolve_recipe
from grata_monai.bundle.foreign import (
    Form,
    code_on_path,
    has_code,
    make_overlay,
    read_form,
    settle_activation,
)
from grata_monai.bundle.forms import Engine
from grata_monai.bundle.open import Bundle, open_bundle
from grata_monai.bundle.rehearse import choose_input, rehearse
from grata_monai.bundle.settings import read_recipe
from grata_monai.bundle.verify import MANIFEST
from grata_monai.core.errors import BundleError, NetworkError, find_root
from grata_monai.core.files import atomic_path

__all__ = ["WrapReport", "wrap_bundle"]


@dataclass(frozen=True)
class WrapReport:
    """What wrapping found out about a bundle's network.

    Attributes:
        overlay: Where the overlay was written.
        config_file: The bundle's own inference configuration.
        network: Class of the network.
        outputs: Number of its output channels.
        activation: What turns them into probabilities.
        layers: Number of normalisation layers by kind.
        groups: Where the moving parameters come from.
        count: Number of scalars that will move.
        notes: What the user should know, one sentence each.
        command: Runs the bundle with the overlay, from any folder.
    """

    overlay: Path
    config_file: Path
    network: str
    outputs: int
    activation: str
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
        bundle_dir: A MONAI bundle with ``configs/inference.json``, or another ``inference*`` there.
        out: The overlay's file, ending in ``.json``.
        recipe: A recipe's name or settings, or the ``.json`` file that ``calibrate`` wrote; goes
            into the overlay.
        unverified: Do not hold the bundle to its manifest. One without is wrapped in any case,
            with a note: only bundles that went through `lint --write-manifest` have one.

    Returns:
        What will move.

    Raises:
        BundleError: If the bundle has a manifest and is not as it says, and nothing was parsed
            then; or if the folder holds no inference configuration.
        NetworkError: If the configuration runs no evaluator, or one that adapts already; or if its
            network cannot be built, or does not predict and give gradients when it is tried.
        NothingToAdaptError: If the network has nothing that the recipe wants to move.
        RecipeError: If the recipe is wrong.
    """
    more = read_recipe(recipe)
    recipe = more.pop("recipe", "clinical")
    settings = resolve_recipe(recipe)
    root = Path(bundle_dir).absolute()
    _refuse_scripts(root)
    has_manifest = (root / MANIFEST).exists()
    bundle = open_bundle(
        root, unverified=unverified or not has_manifest, is_foreign=not has_manifest
    )
    form = read_form(bundle)
    with code_on_path(root), chdir(root):
        network = _build_network(bundle)
        images = choose_input(_build_inferer(bundle, form.engine), form.metadata, *_sizes(network))
        moving, outputs = rehearse(
            network,
            images,
            settings.steps.parameters,
            activation=form.activation or "auto",
            has_steps=settings.steps.count > 0,
        )
    activation, note = settle_activation(form, outputs)
    recipe, rescaling = _spare_scaling(settings, recipe, form)
    overlay, notes = make_overlay(bundle.config, form, activation, recipe)
    overlay[form.engine.inferer_id] |= more
    command = _make_command(bundle, form.engine.run_id, root, Path(out).absolute())
    with atomic_path(Path(out)) as path:
        path.write_text(json.dumps(overlay, indent=4) + "\n")
    kinds = [type(layer).__name__ for layer in normalisation_layers(network).values()]
    return WrapReport(
        overlay=Path(out),
        config_file=bundle.config_file,
        network=type(network).__name__,
        outputs=outputs,
        activation=activation,
        layers={kind: kinds.count(kind) for kind in sorted(set(kinds))},
        groups=moving.groups,
        count=moving.count,
        notes=(*_note_unverified(bundle), *form.notes, *note, *rescaling, *notes),
        command=command,
    )


def _spare_scaling(
    settings: Recipe, recipe: str | Mapping[str, Any], form: Form
) -> tuple[str | Mapping[str, Any], tuple[str, ...]]:
    """Keep a strong view that rescales to [0, 1] away from a network that is not fed so."""
    if settings.steps.strong_view != "paper" or form.is_unit is not False:
        return recipe, ()
    base = {"base": recipe} if isinstance(recipe, str) else dict(recipe)
    return {"name": settings.name, **base, "strong_view": "mild"}, (
        "intensities do not go to the network in [0, 1], to which the strong view 'paper' rescales "
        "them: 'mild' takes its place, which keeps their range.",
    )


def _refuse_scripts(root: Path) -> None:
    """Refuse an algorithm of Auto3DSeg, which is run by scripts and has no evaluator."""
    if (root / "scripts" / "infer.py").is_file() and not any((root / "configs").glob("inference*")):
        raise NetworkError(
            f"the bundle must run an evaluator, {root.name!r} is an Auto3DSeg algorithm, which "
            "runs by scripts/infer.py. Export its network into a bundle with "
            "configs/inference.json, or put GraTaInferer around its inferer in Python."
        )


def _sizes(network: nn.Module) -> tuple[int, int]:
    """Spatial axes and input channels, by the first convolution; 3 and 1 without one."""
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Conv3d)):
            return layer.weight.ndim - 2, layer.in_channels
    return 3, 1


def _build_inferer(bundle: Bundle, engine: Engine) -> Inferer | None:
    """The bundle's inferer, which knows the size of a window; None if it stands in no place."""
    inferer = bundle.get(engine.inferer_id) if engine.inferer_id in bundle.config else None
    if inferer is None and isinstance(engine.inferer, Mapping):
        inferer = ConfigComponent(dict(engine.inferer)).instantiate()
    return inferer if isinstance(inferer, Inferer) else None


def _make_command(bundle: Bundle, run_id: str, root: Path, overlay: Path) -> str:
    """Write the command that runs the bundle's own run id with the overlay, from any folder."""
    is_found = Path(shutil.which("python") or "").resolve() == Path(sys.executable).resolve()
    files = [str(Path(bundle.config_file).absolute()), str(overlay)]
    python = "python" if is_found else sys.executable
    parts = [python, "-m", "monai.bundle", "run", run_id, "--config_file", str(files)]
    prefix = ""
    if "bundle_root" in ConfigParser.load_config_file(bundle.config_file):
        parts += ["--bundle_root", str(root)]
    else:  # then its relative paths begin in its own folder
        prefix = f"cd {shlex.quote(str(root))} && "
    if has_code(root):
        prefix += f"PYTHONPATH={shlex.quote(str(root))}${{PYTHONPATH:+:$PYTHONPATH}} "
    return prefix + shlex.join(parts)


def _note_unverified(bundle: Bundle) -> tuple[str, ...]:
    if bundle.verified["is_verified"]:
        return ()
    return (f"the bundle was not held to a {MANIFEST}: its configuration ran unverified.",)


def _suggest(bundle: Bundle) -> str:
    """What to do about a network that cannot be built."""
    unwrapped = "Check that `python -m monai.bundle run` works unwrapped"
    try:
        wanted = str(bundle.metadata.get("monai_version", ""))
    except BundleError:
        wanted = ""
    here = version("monai")
    if wanted in ("", here):
        return f"{unwrapped}, on this machine."
    return f"{unwrapped}: the bundle was made for MONAI {wanted}, here is {here}."


def _build_network(bundle: Bundle) -> nn.Module:
    """Build the network without weights: which parameters exist does not depend on them."""
    id = "network_def" if "network_def" in bundle.config else "network"
    try:
        network = bundle.get(id)
    except Exception as error:
        root = find_root(error)
        raise NetworkError(
            f"{id} of {bundle.config_file.name} must build a network, it raised "
            f"{type(root).__name__}: {' '.join(str(root).split())[:200]} {_suggest(bundle)}"
        ) from error
    if not isinstance(network, nn.Module):
        raise NetworkError(
            f"{id} must be a torch module, got {type(network).__name__}. "
            "Wrap a bundle of PyTorch, not of TensorRT or TorchScript."
        )
    return network
