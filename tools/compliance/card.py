"""Facts of the model card, from the bundle's metadata, configuration and weights."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grata_monai.adapt.parameters import resolve_parameters
from grata_monai.adapt.recipe import Recipe, resolve_recipe
from grata_monai.bundle import open_bundle
from grata_monai.core.errors import BundleError
from tools.compliance.tables import make_table

__all__ = ["Bundle", "read_bundle", "read_limits", "render_facts", "render_light"]

DIGESTED = ("models/model.pt", "configs/inference.json")


@dataclass(frozen=True)
class Bundle:
    """What the card says of a bundle.

    Attributes:
        metadata: Content of ``configs/metadata.json``.
        config: Content of ``configs/inference.json``, as `open_bundle` gives it.
        weights: Scalars of the network, each counted once.
        moving: Scalars that the default recipe may move.
        recipe: The default recipe.
        digests: SHA-256 of ``models/model.pt`` and ``configs/inference.json``, by name.
    """

    metadata: Mapping[str, Any]
    config: Mapping[str, Any]
    weights: int
    moving: int
    recipe: Recipe
    digests: Mapping[str, str]


def read_bundle(root: Path) -> Bundle:
    """Read a bundle; its network is built, nothing else of it runs.

    It is not held to its manifest, which is written after the page of the bundle that this is for.

    Args:
        root: Of the bundle.

    Raises:
        BundleError: If a file cannot be read.
        RecipeError: If the default recipe is wrong.
        NothingToAdaptError: If it moves nothing.
    """
    bundle = open_bundle(root, unverified=True)
    recipe = resolve_recipe(bundle.config["recipe"])
    network = bundle.get("network_def")
    return Bundle(
        metadata=bundle.metadata,
        config=bundle.config,
        weights=sum(parameter.numel() for parameter in network.parameters()),
        moving=resolve_parameters(network, recipe.steps.parameters).count,
        recipe=recipe,
        digests={name: _digest(root / name) for name in DIGESTED},
    )


def render_facts(root: Path) -> str:
    """Make the card's table of facts.

    Args:
        root: Of the repository.

    Returns:
        Markdown.

    Raises:
        BundleError: If a file of the bundle cannot be read.
    """
    bundle = read_bundle(root / "bundle")
    parameters = bundle.recipe.steps.parameters
    about, parts = bundle.metadata, bundle.metadata["network_data_format"]
    image, pred = parts["inputs"]["image"], parts["outputs"]["pred"]
    codes = [f"{s['number']} {s['label']} ({_code(s['type'])})" for s in about["segments"]]
    rows = [
        ("version", f"{about['version']}: {about['changelog'][about['version']]}"),
        ("task", about["task"]),
        ("intended use", about["intended_use"]),
        ("input", f"{about['image_classes']}; {about['data_type']}; any orientation and spacing"),
        ("output", f"{about['label_classes']}; on the input's own grid; {', '.join(codes)}"),
        ("network", f"{_network(bundle)}; {bundle.weights:,} weights"),
        ("works on", _grid(bundle)),
        ("network's tensors", f"{_tensor(image)} → {_tensor(pred)} ({about['pred_classes']})"),
        ("recipe by default", _recipe(bundle.recipe)),
        (
            "moves",
            f"{', '.join(parameters)}: {bundle.moving:,} weights of a copy",
        ),
        ("trained on", about["data_source"]),
        ("licence", about["copyright"]),
        ("tested with", _versions(about)),
        *((f"SHA-256 of `{name}`", f"`{digest}`") for name, digest in bundle.digests.items()),
    ]
    return make_table(("", ""), rows)


def render_light(root: Path) -> str:
    """Make the table that says what to do at each light, with the default recipe's limits.

    Args:
        root: Of the repository.

    Returns:
        Markdown.

    Raises:
        BundleError: If a file of the bundle cannot be read.
    """
    guard = read_bundle(root / "bundle").recipe.guard
    keep, red, amber = guard.source_below, guard.red_below, guard.amber_below
    rows = [
        ("green", f"{amber:g} or more", "views or adapted", "check it as you check any contour"),
        (
            "amber",
            f"{red:g} to {amber:g}",
            "views or adapted",
            "look at every slice, and at the source network's contour; correct it or discard it",
        ),
        ("red", f"{keep:g} to {red:g}", "views or adapted", "do not use it; draw by hand"),
        ("red", f"below {keep:g}", "source", "do not use it; draw by hand; look at the image"),
        (
            "red",
            "nothing was found, or the case fell back",
            "source",
            "do not use it; see the reason",
        ),
        ("none", "not asked for", "", "the recipe has no guard: nothing warns you"),
    ]
    return make_table(("light", "agreement", "kept", "what to do"), rows)


def read_limits(root: Path) -> list[str]:
    """Read what the card says under its heading "Limits", one text per point."""
    text = (root / "bundle" / "docs" / "README.md").read_text(encoding="utf-8")
    section = text.partition("\n## Limits\n")[2].partition("\n## ")[0]
    return [" ".join(point.split()) for point in section.split("\n- ")[1:]]


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise BundleError(
            f"the bundle must have a readable {path.name}, it has not: {error.strerror}. "
            "Check it with: python -m grata_monai lint"
        ) from error


def _network(bundle: Bundle) -> str:
    network = bundle.config["network_def"]
    levels = len(network["strides"])
    flat = sum(stride[-1] == 1 for stride in network["strides"][1:])
    norm = network["norm_name"][0]
    return (
        f"{network['_target_']}, {levels} levels, {flat} of them reached without pooling along "
        f"the slice axis, {norm} normalisation with scale and shift"
    )


def _grid(bundle: Bundle) -> str:
    spacing = " × ".join(f"{value:g}" for value in bundle.config["spacing"])
    window = " × ".join(map(str, bundle.config["roi_size"]))
    return f"{spacing} mm, windows of {window} voxels with an overlap of {bundle.config['overlap']}"


def _tensor(about: Mapping[str, Any]) -> str:
    shape = " × ".join(map(str, about["spatial_shape"]))
    low, high = about["value_range"]
    return f"{about['num_channels']} × {shape}, {about['dtype']} in [{low}, {high}]"


def _recipe(recipe: Recipe) -> str:
    steps, guard, zooms = recipe.steps, recipe.guard, recipe.multiscale.views
    rate = f"rate {'up to ' if steps.is_dynamic else ''}{steps.base_rate:g}"
    focus = f", {len(zooms)} magnifications" if zooms else ""
    limits = (
        f"; guard keeps the source below {guard.source_below:g}, red below {guard.red_below:g}, "
        f"amber below {guard.amber_below:g}"
    )
    return (
        f"`{recipe.name}`: {recipe.memory}, {steps.count} steps, {rate}, "
        f"seed {recipe.seed}{focus}{limits if zooms else ''}"
    )


def _versions(about: Mapping[str, Any]) -> str:
    named = {
        "monai": about["monai_version"],
        "torch": about["pytorch_version"],
        "numpy": about["numpy_version"],
        **about["required_packages_version"],
    }
    return ", ".join(f"{name} {version}" for name, version in named.items())


def _code(code: Mapping[str, str]) -> str:
    return f"{code['scheme']} {code['value']}"
