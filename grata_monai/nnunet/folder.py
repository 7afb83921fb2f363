"""Read a trained nnU-Net v2 folder: plans, labels, folds, weights; nothing of it is run.

nnU-Net itself unpickles checkpoints and imports what ``plans.json`` names; both let a folder run
any code. Here weights are read as data, and only classes of nnU-Net and torch are built.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from pickle import UnpicklingError
from pydoc import ErrorDuringImport, locate
from typing import Any

import numpy as np
import torch
from torch import nn

from grata_monai.bundle.signature import required_key
from grata_monai.bundle.verify import MANIFEST, not_verified, verify_bundle
from grata_monai.core.errors import BundleError, NetworkError, WeightsError
from grata_monai.core.verified import Verified

__all__ = [
    "CHECKPOINT",
    "Checkpoint",
    "ModelFolder",
    "is_folder",
    "read_ending",
    "read_folder",
    "verify_folder",
]

CHECKPOINT = "checkpoint_final.pth"
FOLD = "fold_"
ALL = "all"
LONGEST = 64  # characters of a name in DICOM
BUILDABLE = ("dynamic_network_architectures.", "nnunetv2.", "torch.nn.")
NUMBERS = (np.dtype, *(type(np.dtype(kind)) for kind in (np.float32, np.float64, np.int64)))


@dataclass(frozen=True)
class Checkpoint:
    """What a fold's file holds, as far as predicting needs it.

    Attributes:
        weights: State dict.
        trainer: Name of nnU-Net's class that trained it.
        configuration: Of the plans, such as ``3d_fullres``.
        mirroring: Axes of the network's images along which they were mirrored in training; None if
            along none.
    """

    weights: Mapping[str, Any]
    trainer: str
    configuration: str
    mirroring: tuple[int, ...] | None


@dataclass(frozen=True)
class ModelFolder:
    """A trained folder.

    Attributes:
        name: Last part of its path.
        plans: Content of ``plans.json``.
        dataset: Content of ``dataset.json``.
        folds: Names, such as ``0`` or ``all``.
        checkpoints: One per fold.
        verified: For the record: whether a manifest vouches for it.
    """

    name: str
    plans: dict[str, Any]
    dataset: dict[str, Any]
    folds: tuple[str, ...]
    checkpoints: tuple[Checkpoint, ...]
    verified: Verified

    @property
    def configuration(self) -> str:
        """Name of the configuration that was trained."""
        return self.checkpoints[0].configuration

    @property
    def labels(self) -> dict[int, str]:
        """Number in the mask to its name, without background and what training ignored."""
        named = [(n, v) for n, v in self.dataset["labels"].items() if n != "ignore" and v != 0]
        if any(isinstance(value, list) and len(value) > 1 for _, value in named):
            order = self.dataset["regions_class_order"]
            return {int(number): name for (name, _), number in zip(named, order, strict=True)}
        single = (value[0] if isinstance(value, list) else value for _, value in named)
        return {int(number): str(name) for (name, _), number in zip(named, single, strict=True)}

    @property
    def ending(self) -> str:
        """How names of images end, such as ``.nii.gz``."""
        return str(self.dataset["file_ending"])

    @property
    def channels(self) -> dict[int, str]:
        """Channel number to its name, such as CT."""
        found = self.dataset.get("channel_names") or self.dataset["modality"]
        return {int(number): str(name) for number, name in found.items()}


def is_folder(path: Path) -> bool:
    """Whether a folder is that of a trained nnU-Net, by its files."""
    return all((path / name).is_file() for name in ("plans.json", "dataset.json"))


def read_ending(path: Path) -> str:
    """Read how names of images end, without the weights.

    Raises:
        BundleError: If ``dataset.json`` cannot be read, or does not say.
    """
    dataset = _read_json(path, "dataset.json")
    _check_dataset(dataset, path.name)
    return str(dataset["file_ending"])


def read_folder(
    path: Path, *, folds: Sequence[str] = (), checkpoint: str = CHECKPOINT,
    trust: bool = False, unverified: bool = False,
) -> ModelFolder:  # fmt: skip
    """Read a trained folder.

    Args:
        path: Holds ``plans.json``, ``dataset.json`` and ``fold_*``.
        folds: Numbers or ``all``; every numbered fold that is there if empty, else ``fold_all``.
        checkpoint: Name of the file in each fold.
        trust: Read pickles and build any class, as nnU-Net does.
        unverified: Do not hold it to its manifest, if it has one.

    Returns:
        Its content.

    Raises:
        BundleError: If it is no trained folder, its JSON files cannot be read, or it is not as its
            manifest says.
        WeightsError: If a fold or its checkpoint is missing, unreadable, or unlike the others.
        NetworkError: If it is a cascade's second stage, or names foreign classes.
    """
    path = path.expanduser()
    verified = verify_folder(path, unverified=unverified)
    plans, dataset = (_read_json(path, name) for name in ("plans.json", "dataset.json"))
    _check_dataset(dataset, path.name)
    names = _choose_folds(path, folds, checkpoint)
    loaded = tuple(_load(path / f"{FOLD}{name}" / checkpoint, trust=trust) for name in names)
    _check_alike(names, loaded)
    configuration = loaded[0].configuration
    try:
        _check_configuration(plans, configuration, path.name)
        if not trust:
            _check_classes(plans, configuration)
    except (AttributeError, LookupError, TypeError) as error:
        raise BundleError(
            f"plans.json must be as nnU-Net wrote it, that of {path.name!r} is not "
            f"({type(error).__name__}). Copy the folder again."
        ) from error
    name = f"{plans.get('dataset_name', path.name)} {configuration}"[:LONGEST]
    verified = Verified({**verified, "name": name, "version": f"folds {' '.join(names)}"[:LONGEST]})
    return ModelFolder(path.name, plans, dataset, names, loaded, verified)


def verify_folder(path: Path, *, unverified: bool = False) -> Verified:
    """Hold a folder to its manifest, if it has one or the hospital opens nothing unsigned.

    Raises:
        BundleError: If it is not as the manifest says.
    """
    if (path / MANIFEST).exists() or required_key():
        return verify_bundle(path, unverified=unverified)
    return not_verified("an nnU-Net folder without manifest")


def _read_json(path: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads((path / name).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(
            f"a trained nnU-Net folder must hold a readable {name}, {path.name!r} does not "
            f"({type(error).__name__}). Point -m to the folder with plans.json, dataset.json and "
            "fold_0, as nnU-Net's results have it: Dataset…/nnUNetTrainer__nnUNetPlans__3d_fullres."
        ) from error
    if not isinstance(content, dict):
        raise BundleError(f"{name} must hold one JSON object, it does not. Copy the folder again.")
    return content


def _check_dataset(dataset: Mapping[str, Any], name: str) -> None:
    missing = [key for key in ("labels", "file_ending") if not dataset.get(key)]
    if not (dataset.get("channel_names") or dataset.get("modality")):
        missing.append("channel_names")
    if missing:
        raise BundleError(
            f"dataset.json must have {', '.join(missing)}, that of {name!r} has not. "
            "Take the file that nnU-Net v2 wrote beside plans.json; version 1 had another form."
        )


def _choose_folds(path: Path, asked: Sequence[str], checkpoint: str) -> tuple[str, ...]:
    there = sorted(
        folder.name.removeprefix(FOLD)
        for folder in path.glob(f"{FOLD}*")
        if (folder / checkpoint).is_file()
    )
    missing = [name for name in asked if name not in there]
    if missing or not there:
        near = sorted({file.name for file in path.glob(f"{FOLD}*/*.pth")})
        hint = f" Its folds hold {', '.join(near)}: name one with -chk." if near else ""
        raise WeightsError(
            f"fold {', '.join(missing) or '0'} must hold {checkpoint}, it does not; folds with it: "
            f"{', '.join(there) or 'none'}.{hint or ' Copy the fold_* folders too.'}"
        )
    numbered = [name for name in there if name != ALL]
    return tuple(dict.fromkeys(asked)) or tuple(numbered or there)


def _load(path: Path, *, trust: bool) -> Checkpoint:
    place = f"{path.parent.name}/{path.name}"
    scalar = np._core.multiarray.scalar  # type: ignore[attr-defined]  # in training's log
    allowed: list[Any] = [*NUMBERS, scalar, (scalar, "numpy.core.multiarray.scalar")]  # of numpy 1
    try:
        with torch.serialization.safe_globals(allowed):
            content = torch.load(path, map_location="cpu", weights_only=not trust)
    except UnpicklingError as error:
        raise WeightsError(
            f"{place} must hold weights as data alone, it asks for code to be run. If you trust "
            "whoever made it, say so with --trust: nnU-Net itself asks for that much."
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise WeightsError(
            f"{place} must be a checkpoint of nnU-Net, it cannot be read "
            f"({type(error).__name__}). Copy it again."
        ) from error
    try:
        axes = content.get("inference_allowed_mirroring_axes")
        return Checkpoint(
            weights={
                key.removeprefix("module."): value
                for key, value in content["network_weights"].items()
            },
            trainer=str(content["trainer_name"]),
            configuration=str(content["init_args"]["configuration"]),
            mirroring=None if axes is None else tuple(int(axis) for axis in axes),
        )
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{place} must be a checkpoint of nnU-Net v2, it lacks something ({error}). "
            "Use the file that training wrote."
        ) from error


def _check_alike(names: Sequence[str], loaded: Sequence[Checkpoint]) -> None:
    first = loaded[0]
    for name, other in zip(names, loaded, strict=True):
        if (other.configuration, other.trainer) != (first.configuration, first.trainer):
            raise WeightsError(
                f"folds must be of one training, fold {name} is {other.configuration} of "
                f"{other.trainer} and fold {names[0]} {first.configuration} of {first.trainer}. "
                "Name the folds of one with -f."
            )


def _check_configuration(plans: Mapping[str, Any], name: str, folder: str) -> None:
    known = plans.get("configurations") or {}
    if name not in known:
        near = get_close_matches(name, known, n=1)
        raise BundleError(
            f"plans.json must hold the configuration {name!r} of the checkpoint, that of "
            f"{folder!r} has {', '.join(known) or 'none'}."
            f"{f' Did you mean {near[0]!r}?' if near else ''} Copy the folder again."
        )
    for settings in _inherited(known, name):
        if settings.get("previous_stage"):
            raise NetworkError(
                f"the network must need images alone, {name!r} is the second stage of a cascade: "
                f"it needs the masks of {settings['previous_stage']!r} too, which adaptation would "
                "have to judge twice. Use 3d_fullres, 3d_lowres or 2d."
            )


def _inherited(known: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """List a configuration and those from which it inherits what it does not say."""
    chain: dict[str, Mapping[str, Any]] = {}
    while name in known and name not in chain:
        chain[name] = known[name]
        name = chain[name].get("inherits_from", name)
    return list(chain.values())


def _check_classes(plans: Mapping[str, Any], name: str) -> None:
    """Refuse plans that name anything but layers of nnU-Net or torch: to build them runs code."""
    for settings in _inherited(plans["configurations"], name):
        network = settings.get("architecture") or {}
        arguments = network.get("arch_kwargs") or {}
        needed = network.get("_kw_requires_import") or ()
        for one in (network.get("network_class_name"), *(arguments.get(key) for key in needed)):
            if one is not None and not _is_layer(str(one)):
                raise NetworkError(
                    f"plans.json must name classes of nnU-Net or torch.nn, got {str(one)[:100]!r}. "
                    "If you trust whoever made the folder, and have the package, say so with "
                    "--trust."
                )


def _is_layer(name: str) -> bool:
    """Whether a name stands for a layer, or for nothing; modules lead on to what they import."""
    if not name.startswith(BUILDABLE):
        return False
    try:
        found = locate(name)
    except ErrorDuringImport:
        return False
    if found is None:  # not installed, or moved: nnU-Net then searches among its own networks
        return True
    is_class = isinstance(found, type) and issubclass(found, nn.Module)
    return is_class and found.__module__.startswith(BUILDABLE)
