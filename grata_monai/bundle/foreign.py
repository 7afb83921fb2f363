"""Read somebody else's bundle as a whole, and open it with GraTaInferer around its inferer.

What `wrap` writes into an overlay for MONAI's own command, experiments make here in memory.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine as IgniteEngine
from monai.transforms import Compose
from torch import nn

from grata_monai.bundle.forms import (
    Engine,
    find_engine,
    find_pairs,
    find_side_axis,
    find_training_flips,
    follow,
    is_in_unit_range,
    list_transforms,
    read_activation,
    read_channels,
)
from grata_monai.bundle.items import iterate_items
from grata_monai.bundle.open import Bundle, open_bundle
from grata_monai.bundle.verify import MANIFEST
from grata_monai.core.errors import BundleError, NetworkError, WeightsError, find_root
from grata_monai.inferer import GraTaInferer

__all__ = [
    "ForeignBundle",
    "Form",
    "code_on_path",
    "comes_unverified",
    "has_code",
    "is_foreign",
    "make_overlay",
    "open_foreign",
    "read_form",
    "settle_activation",
]

_POST = "grata_postprocessing"
_READERS = ("LoadImage", "EnsureChannelFirst", "EnsureChannelFirstd", "LoadImaged")


@dataclass(frozen=True)
class Form:
    """How the bundle is written.

    Attributes:
        engine: What it runs.
        metadata: Content of its ``metadata.json``; empty without one.
        activation: That its postprocessing names; else empty.
        channels: Names of its output channels.
        mirroring: Fields of a `Mirroring`; empty for any.
        is_unit: Whether intensities go to the network in [0, 1]; None if it does not say.
        notes: What the user should know of these.
    """

    engine: Engine
    metadata: Mapping[str, Any]
    activation: str
    channels: Mapping[int, str]
    mirroring: Mapping[str, Any]
    is_unit: bool | None
    notes: tuple[str, ...]


def read_form(bundle: Bundle) -> Form:
    """Read a bundle's form.

    Raises:
        NetworkError: If it runs no evaluator of one network, or one that adapts already.
    """
    config = bundle.config
    engine = find_engine(config)
    if isinstance(engine.inferer, Mapping) and str(engine.inferer.get("_target_")).endswith(
        "GraTaInferer"
    ):
        raise NetworkError(
            "inferer must not be a GraTaInferer yet, this bundle adapts already. "
            "Run it as it is, and choose the recipe with --recipe."
        )
    try:
        metadata = bundle.metadata
    except BundleError:
        metadata = {}
    channels = read_channels(metadata)
    mirroring, notes = _read_mirroring(bundle, channels)
    post = engine.config.get("postprocessing", "@postprocessing")
    return Form(
        engine=engine,
        metadata=metadata,
        activation=read_activation(config, post),
        channels=channels,
        mirroring=mirroring,
        is_unit=is_in_unit_range(config, "@preprocessing"),
        notes=notes,
    )


def _read_mirroring(
    bundle: Bundle, channels: Mapping[int, str]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Which mirror images training showed, and which labels have sides."""
    flips, pairs = find_training_flips(bundle.root), find_pairs(channels)
    side_axis = find_side_axis(bundle.config, "@preprocessing")
    if flips is not None:
        axes = ", ".join(map(str, flips)) or "none"
        found = (
            f"training mirrored along axes: {axes}; the network is shown no other mirror images."
        )
        if not flips:
            found += " Until a recipe is calibrated, the guard keeps the source's mask."
        return {"axes": list(flips)}, (found,)
    if not pairs:
        return {}, ()
    names = "; ".join(f"{channels[one]} and {channels[two]}" for one, two in pairs)
    note = (
        f"labels with sides change places in mirrored views: {names}. If training mirrored without "
        "exchanging them, take `pairs` out of the overlay."
    )
    found_pairs = [list(pair) for pair in pairs]
    return {"pairs": found_pairs, "side_axis": side_axis}, (note,)


def settle_activation(form: Form, outputs: int) -> tuple[str, tuple[str, ...]]:
    """The activation, and a note where nothing but a guess says which."""
    if form.activation:
        return form.activation, ()
    if outputs == 1:
        return "sigmoid", ()
    if form.channels:
        has_background = "background" in form.channels.get(0, "").casefold()
        activation = "softmax" if has_background else "sigmoid"
        return activation, (f"channel_def of metadata.json is taken to mean {activation}.",)
    return "softmax", (
        "no Activationsd or argmax in `postprocessing` tells sigmoid from softmax: several "
        "output channels are taken for softmax. Set `activation` in the overlay if not.",
    )


def has_code(bundle_dir: Path) -> bool:
    """Whether the bundle brings Python of its own."""
    return any(bundle_dir.rglob("*.py"))


@contextmanager
def code_on_path(bundle_dir: Path) -> Iterator[None]:
    """Let the configuration import the bundle's own Python, as a run with `PYTHONPATH` does."""
    path = str(bundle_dir.absolute())
    is_added = has_code(bundle_dir) and path not in sys.path
    if is_added:
        sys.path.insert(0, path)
    try:
        yield
    finally:
        if is_added:
            sys.path.remove(path)


def make_overlay(
    config: Mapping[str, Any], form: Form, activation: str, recipe: str | Mapping[str, Any]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Wrap the bundle's inferer where it stands; keep fp16 autocast out; log and write records."""
    engine, notes = form.engine, []
    at = engine.inferer_id
    overlay: dict[str, Any] = {
        at: {
            "_target_": "grata_monai.GraTaInferer",
            "inferer": engine.inferer,
            "recipe": recipe,
            "activation": activation,
        }
    }
    if form.mirroring:
        overlay[at]["mirroring"] = form.mirroring
    if follow(config, engine.config.get("amp")):
        overlay[f"{engine.id}#amp"] = False
        overlay[at]["precision"] = "fp16"
        notes.append(f"{engine.id}#amp is off: GraTaInferer predicts in fp16 autocast itself.")
    handler = {"_target_": "grata_monai.GraTaHandler", "record_dir": "@output_dir"}
    if "output_dir" not in config:
        del handler["record_dir"]
        notes.append("no `output_dir` in the configuration: records are logged, not written.")
    return overlay | _attach_handler(config, engine, handler), tuple(notes)


def _attach_handler(
    config: Mapping[str, Any], engine: Engine, handler: Mapping[str, Any]
) -> dict[str, Any]:
    """Add the handler to the engine's own, wherever these stand."""
    at, listed = f"{engine.id}#val_handlers", engine.config.get("val_handlers")
    while isinstance(listed, str) and isinstance(follow(config, listed), list):
        at, listed = listed[1:], config.get(listed[1:], follow(config, listed))
    if isinstance(listed, list):
        return {f"+{at}": [handler]}
    if listed is None:
        return {at: [handler]}
    others = str(listed).removeprefix("$")
    return {at: f"$list({others}) + [@grata_handler]", "grata_handler": handler}


@dataclass(frozen=True)
class ForeignBundle:
    """The parts of somebody else's bundle, adapting.

    Attributes:
        bundle: With `GraTaInferer` in its configuration.
        network: With its weights, in evaluation mode.
        inferer: The bundle's own, wrapped.
        preprocessing: File to image; its first step is all that reads.
        postprocessing: Logits to what the bundle saves; saves nothing.
        device: Where the network is.
    """

    bundle: Bundle
    network: nn.Module
    inferer: GraTaInferer
    preprocessing: Compose
    postprocessing: Compose
    device: torch.device


def is_foreign(root: Path | str, *, unverified: bool = False) -> bool:
    """Whether no GraTaInferer stands in a bundle's inference configuration.

    Raises:
        BundleError: If there is a manifest and the bundle is not as it says; nothing was parsed.
    """
    root = Path(root)
    unverified = unverified or not (root / MANIFEST).exists()
    config = open_bundle(root, unverified=unverified, is_foreign=True).config
    targets = [item.value for item in iterate_items(config) if item.key == "_target_"]
    return not any(str(target).endswith("GraTaInferer") for target in targets)


def comes_unverified(root: Path | str) -> bool:
    """Whether a bundle is somebody else's and has no manifest to be held to."""
    return not (Path(root) / MANIFEST).exists() and is_foreign(root)


def open_foreign(
    root: Path | str,
    *,
    device: str,
    settings: Mapping[str, Any] | None = None,
    weights: str | None = None,
    unverified: bool = False,
) -> ForeignBundle:
    """Open somebody else's bundle and build its parts, wrapped in memory.

    Args:
        root: The bundle's folder.
        device: Such as ``cpu``.
        settings: As of `open_bundle`; arguments of `GraTaInferer` stand where the inferer does.
        weights: A state dict in place of what the bundle's CheckpointLoader loads.
        unverified: Do not hold it to its manifest, if it has one.

    Raises:
        BundleError: If it is not as its manifest says, or has no inference configuration.
        NetworkError: If it runs no evaluator, or has no network.
        WeightsError: If its checkpoint is not there, or does not fit.
    """
    root = Path(root).absolute()
    has_manifest = (root / MANIFEST).exists()
    bundle = open_bundle(
        root, unverified=unverified or not has_manifest, is_foreign=not has_manifest
    )
    form = read_form(bundle)
    activation = settle_activation(form, 0)[0] if form.activation or form.channels else "auto"
    overlay, _ = make_overlay(bundle.config, form, activation, "clinical")
    at = form.engine.inferer_id
    post = form.engine.config.get("postprocessing", "@postprocessing")
    kept = [
        step
        for step in list_transforms(bundle.config, post)
        if not str(step.get("_target_")).rsplit(".", 1)[-1].startswith("Save")
    ]
    bundle.config[_POST] = {"_target_": "Compose", "transforms": kept}
    if "#" not in at:
        bundle.config[at] = None
    bundle.set({at: overlay[at], "device": f"$torch.device({device!r})", **(settings or {})})
    with code_on_path(root):
        network = _load(bundle, weights)
        return ForeignBundle(
            bundle=bundle,
            network=network.eval(),
            inferer=bundle.get(at),
            preprocessing=_read_first(bundle.preprocessing),
            postprocessing=bundle.get(_POST),
            device=torch.device(device),
        )


def _load(bundle: Bundle, weights: str | None) -> nn.Module:
    """Build the network, and give it the weights that the bundle's run would give it."""
    network: nn.Module = bundle.get("network" if "network" in bundle.config else "network_def")
    if weights is not None:
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        return network
    for item in list(iterate_items(bundle.config)):
        if item.key == "_target_" and str(item.value).endswith("CheckpointLoader"):
            loader = bundle.get(item.id.rpartition("#")[0])
            if loader is not None:  # else it is disabled
                _run_loader(loader)
    return network


def _run_loader(loader: Any) -> None:
    try:
        loader(IgniteEngine(lambda *_: None))
    except (OSError, RuntimeError, ValueError) as error:
        root = find_root(error)
        raise WeightsError(
            "weights must be where the bundle's CheckpointLoader looks and fit its network, "
            f"{Path(str(loader.load_path)).name!r} does not load ({type(root).__name__}: "
            f"{' '.join(str(getattr(root, 'strerror', None) or root).split())[:200]}). Download "
            "the bundle with its weights, or name a file with --weights."
        ) from error


def _read_first(preprocessing: Compose) -> Compose:
    """Make one step of all that reads: what follows finds an image with a channel axis."""
    steps = list(preprocessing.transforms)
    count = next((k for k, s in enumerate(steps) if type(s).__name__ not in _READERS), len(steps))
    return Compose([Compose(steps[:count]), *steps[count:]])
