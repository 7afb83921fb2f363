"""Read how somebody else's bundle is written: its engine, activation, labels and training.

Bundles agree on little but the file format. Nothing is built here.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from grata_monai.bundle.items import CONFIG_SUFFIXES
from grata_monai.core.errors import NetworkError

__all__ = [
    "Engine",
    "find_engine",
    "find_pairs",
    "find_side_axis",
    "find_training_flips",
    "follow",
    "is_in_unit_range",
    "list_transforms",
    "read_activation",
    "read_channels",
]

_RUN_IDS = ("inference", "run", "evaluating", "evaluate")
"""Under which names bundles have their steps, the most usual for inference first."""

_RUNS = re.compile(r"@([\w#]+?)(?:\.|#)run\s*\(")
_SIDES = re.compile(r"(?<![a-z])(left|right)(?![a-z])", re.IGNORECASE)
_OTHER_SIDE = {"left": "right", "right": "left"}
_TO_UNIT = ("ScaleIntensity", "ScaleIntensityRange", "ScaleIntensityRangePercentiles")


@dataclass(frozen=True)
class Engine:
    """What a bundle runs for inference.

    Attributes:
        run_id: Name of the list of steps.
        id: Of the engine in the configuration.
        config: The engine's own part of it.
        inferer_id: Where the inferer stands.
        inferer: What stands there.
    """

    run_id: str
    id: str
    config: Mapping[str, Any]
    inferer_id: str
    inferer: Any = field(repr=False)


def follow(config: Mapping[str, Any], value: Any) -> Any:
    """What a plain reference such as ``@amp`` or ``@a#b`` stands for; others are themselves."""
    for _ in range(16):
        if not (isinstance(value, str) and re.fullmatch(r"@[\w#]+", value)):
            break
        value = _get(config, value[1:])
    return value


def _get(config: Any, id: str) -> Any:
    for key in id.split("#"):
        if isinstance(config, Mapping):
            config = config.get(key)
        elif isinstance(config, list) and key.isdecimal() and int(key) < len(config):
            config = config[int(key)]
        else:
            return None
    return config


def find_engine(config: Mapping[str, Any]) -> Engine:
    """Find the list of steps that the bundle is run by, its engine, and the engine's inferer.

    Raises:
        NetworkError: If nothing runs an evaluator, or it is one that has no single network.
    """
    others = [name for name, value in config.items() if isinstance(value, list)]
    for run_id in (*_RUN_IDS, *others):
        steps = config.get(run_id)
        for step in steps if isinstance(steps, list) else [steps]:
            found = _RUNS.search(step) if isinstance(step, str) else None
            if found:
                return _read_engine(config, run_id, found[1])
    raise NetworkError(
        f"configuration must define one of {', '.join(_RUN_IDS)}, or another list of steps, that "
        "runs an evaluator, such as '$@evaluator.run()', it has none. Bundles that only train, "
        "generate or run by scripts cannot be wrapped."
    )


def _read_engine(config: Mapping[str, Any], run_id: str, id: str) -> Engine:
    engine = _get(config, id)
    target = str(engine.get("_target_")) if isinstance(engine, Mapping) else ""
    if not target.endswith("Evaluator") or target.endswith("EnsembleEvaluator"):
        raise NetworkError(
            f"{run_id} must run an evaluator of one network, {id!r} is "
            f"{target or type(engine).__name__}. Wrap each network with a SupervisedEvaluator "
            "of its own, or use GraTaInferer from Python."
        )
    inferer_id, inferer = f"{id}#inferer", engine.get("inferer")
    while isinstance(inferer, str) and re.fullmatch(r"@[\w#]+", inferer):
        inferer_id, inferer = inferer[1:], _get(config, inferer[1:])
    if inferer is None:  # as of MONAI's evaluators
        inferer = {"_target_": "monai.inferers.SimpleInferer"}
    return Engine(run_id, id, engine, inferer_id, inferer)


def list_transforms(config: Mapping[str, Any], part: Any) -> Iterator[Mapping[str, Any]]:
    """List the transforms of a part of the configuration, also inside nested Compose."""
    part = follow(config, part)
    if isinstance(part, Mapping) and "transforms" in part:
        part = follow(config, part["transforms"])
    for step in part if isinstance(part, list) else [part]:
        one = follow(config, step)
        if isinstance(one, Mapping) and "transforms" in one:
            yield from list_transforms(config, one)
        elif isinstance(one, Mapping):
            yield one


def _kind(transform: Mapping[str, Any]) -> str:
    """A transform's class, without its module and the d of dictionaries."""
    name = str(transform.get("_target_", "")).rsplit(".", 1)[-1]
    return re.sub(r"(d|D|Dict)$", "", name)


def read_activation(config: Mapping[str, Any], postprocessing: Any = "@postprocessing") -> str:
    """Say which activation the postprocessing puts on the logits; empty if it does not say.

    An ``argmax`` without one means softmax: each voxel belongs to one class. A ``threshold`` alone
    means sigmoid: every channel is a region of its own.
    """
    for step in list_transforms(config, postprocessing):
        kind = _kind(step)
        said = {"Activations": _named_in(config, step), "AsDiscrete": _meant_by(config, step)}
        said["Lambda"] = said["Activations"]
        if said.get(kind):
            return said[kind]
    return ""


def _named_in(config: Mapping[str, Any], step: Mapping[str, Any]) -> str:
    """The activation that a transform has as a switch, or in the text of a function."""
    text = f"{step.get('other', '')} {step.get('func', '')}"
    names = ("sigmoid", "softmax")
    return next((n for n in names if follow(config, step.get(n)) is True or n in text), "")


def _meant_by(config: Mapping[str, Any], step: Mapping[str, Any]) -> str:
    if follow(config, step.get("argmax")) is True:
        return "softmax"
    return "" if follow(config, step.get("threshold")) is None else "sigmoid"


def read_channels(metadata: Mapping[str, Any]) -> dict[int, str]:
    """Names of the output channels, as far as ``network_data_format`` says."""
    outputs = metadata.get("network_data_format", {}).get("outputs", {})
    first: Any = outputs.get("pred") or next(iter(outputs.values()), {})
    named = first.get("channel_def") if isinstance(first, Mapping) else None
    if not isinstance(named, Mapping):
        return {}
    return {int(key): str(name) for key, name in named.items() if str(key).isdecimal()}


def find_pairs(channels: Mapping[int, str]) -> tuple[tuple[int, int], ...]:
    """Find channels whose names differ in left and right alone.

    >>> find_pairs({0: "background", 1: "left_kidney", 2: "spleen", 3: "right_kidney"})
    ((1, 3),)
    """
    numbers = {name.casefold(): number for number, name in channels.items()}
    pairs = []
    for name, number in numbers.items():
        other = numbers.get(_SIDES.sub(lambda found: _OTHER_SIDE[found[0].lower()], name), number)
        if number < other:
            pairs.append((number, other))
    return tuple(pairs)


def find_side_axis(config: Mapping[str, Any], preprocessing: Any) -> int:
    """Which spatial axis leads from one side to the other, by the orientation; 0 if unknown."""
    for step in list_transforms(config, preprocessing):
        axes = follow(config, step.get("axcodes"))
        if _kind(step) == "Orientation" and isinstance(axes, str):
            found = [index for index, letter in enumerate(axes.upper()) if letter in "LR"]
            return found[0] if found else 0
    return 0


def is_in_unit_range(config: Mapping[str, Any], preprocessing: Any) -> bool | None:
    """Whether the last scaling of intensities leads to [0, 1]; None if there is none."""
    answer = None
    for step in list_transforms(config, preprocessing):
        kind = _kind(step)
        if kind == "NormalizeIntensity":
            answer = False
        elif kind in _TO_UNIT:
            default = (0.0, 1.0) if kind == "ScaleIntensity" else (None, None)
            names = ("minv", "maxv") if kind == "ScaleIntensity" else ("b_min", "b_max")
            ends = [follow(config, step.get(n, d)) for n, d in zip(names, default, strict=True)]
            answer = ends == [0, 1]
    return answer


def find_training_flips(root: Path) -> tuple[int, ...] | None:
    """Along which axes the bundle's training mirrored; None if it does not say.

    Args:
        root: The bundle's folder; configurations whose names begin with ``train`` are looked at.
    """
    found: set[int] = set()
    is_said = False
    for path in sorted((root / "configs").glob("train*")):
        if path.suffix not in CONFIG_SUFFIXES:
            continue
        config = ConfigParser.load_config_file(path)
        for kind, step in _walk(config):
            is_said = is_said or kind.startswith("Rand")
            if kind == "RandAxisFlip":
                found |= {0, 1, 2}
            elif kind == "RandFlip":
                axes = follow(config, step.get("spatial_axis"))
                listed = axes if isinstance(axes, list) else [axes]
                found |= {0, 1, 2} if axes is None else {a for a in listed if isinstance(a, int)}
    return tuple(sorted(found)) if is_said else None


def _walk(part: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(part, Mapping):
        if "_target_" in part:
            yield _kind(part), part
        part = list(part.values())
    if isinstance(part, list):
        for item in part:
            yield from _walk(item)
