"""Run methods over cases, one row each; what is done stays done when a run is killed."""

import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from torch import Tensor

from grata_monai.adapt.episode import run_episode
from grata_monai.adapt.losses import probabilities
from grata_monai.adapt.method import Episode, OnlineMemory
from grata_monai.adapt.profile import SourceProfile
from grata_monai.adapt.result import EpisodeResult
from grata_monai.adapt.scores import Quality
from grata_monai.adapt.scores.mirror_gain import SCORE as MIRROR_GAIN
from grata_monai.core.errors import GrataError
from grata_monai.core.files import atomic_path, ensure_writable
from grata_monai.experiments.harness.bench import Bench, Prepared
from grata_monai.experiments.harness.cost import measured
from grata_monai.experiments.harness.key import digest, digest_case
from grata_monai.methods.registry import System, grata_system

__all__ = ["Row", "assign", "fit_system", "read_rows", "run_methods"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Row:
    """One method on one case.

    Attributes:
        method: Its name.
        case: Its name.
        centre: Where the case comes from.
        dice: Of the final mask, in [0, 1].
        hd95: In mm of the image's header; NaN where it is not defined.
        assd: In mm; NaN where it is not defined.
        seconds: Of the source network's pass and the method together.
        peak_bytes: Most memory of the GPU, or of the process (Linux), above that in use before
            either; NaN elsewhere.
        refusal: Why there is no mask; empty if there is one.
        cosine: Mean over GraTa's steps, of the two gradients, in [-1, 1]; NaN without steps.
        agreement: Consistency that the guard read, in [0, 1]; NaN without a guard.
        mirror_gain: How much more consistent mirrored predictions are in the magnified views than
            in the whole image; NaN where the guard did not compare them.
        kept: What the guard handed on: ``source``, ``views`` or ``adapted``; empty without.
        reason: Why the prediction is the source network's; empty if it is not, or not known.
        change: Largest change of a probability against the source network's, in [0, 1].
        relabelled: Voxels of the network's grid whose label is not the source network's.
        light: The guard's quality flag; empty without.
        shift: Share of source cases that are less foreign, in [0, 100]; NaN without a profile.
        predicted: Predicted Dice of what was handed on, in [0, 1]; NaN without a fitted profile.
        signs: Prediction (``source``, ``kept``) to its signs; empty without a profile.
        settings: The method's hyper-parameters.
        key: Digest of all that decides the row; a row of another key is computed anew. Of a method
            that learns from case to case, the cases before this one are in it.
    """

    method: str
    case: str
    centre: str
    dice: float = float("nan")
    hd95: float = float("nan")
    assd: float = float("nan")
    seconds: float = float("nan")
    peak_bytes: float = float("nan")
    refusal: str = ""
    cosine: float = float("nan")
    agreement: float = float("nan")
    mirror_gain: float = float("nan")
    kept: str = ""
    reason: str = ""
    change: float = float("nan")
    relabelled: float = float("nan")
    light: str = ""
    shift: float = float("nan")
    predicted: float = float("nan")
    signs: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    key: str = ""


def run_methods(
    methods: Mapping[str, System],
    cases: Sequence[Mapping[str, str]],
    bench: Bench,
    out: str | Path,
    *,
    seed: int = 0,
    profiles: Mapping[str, SourceProfile] | None = None,
) -> Iterator[Row]:
    """Run every method on every case that has no row of the same key yet.

    Args:
        methods: Name to system.
        cases: Of `list_cases`, with labels.
        bench: The bundle.
        out: Folder of rows, ``rows/METHOD/CASE.json``; made if missing.
        seed: Of everything random.
        profiles: Case to the profile that stands in place of the bundle's.

    Yields:
        Every row, also those that an earlier run left. A method that refuses the network, or fails
        on a case, has a row that says why. A row that cannot be read is computed anew.

    Raises:
        OutputError: If the folder cannot be written.
    """
    folder = ensure_writable(Path(out)) / "rows"
    methods = {name: fit_system(system, bench) for name, system in methods.items()}
    memories = {
        name: OnlineMemory() if system.method.is_online else None
        for name, system in methods.items()
    }
    keys = _make_keys(methods, cases, bench, seed, profiles or {})
    done = {place: row for place in keys if (row := _find_row(folder, place, keys[place]))}
    for name, memory in memories.items():
        # an online method must meet its cases again, or it would go on from nowhere
        if memory is not None and not all((name, case["case"]) in done for case in cases):
            done = {place: row for place, row in done.items() if place[0] != name}
    for case in cases:
        prepared: Prepared | None = None
        for name, system in methods.items():
            place = name, case["case"]
            if place not in done:
                known = (profiles or {}).get(case["case"])
                prepared = prepared or bench.prepare(case, seed=seed, profile=known)
                row = _run(name, system, case, prepared, bench, memories[name])
                done[place] = replace(row, key=keys[place])
                _write(done[place], _locate(folder, place))
            yield replace(done[place], centre=case["centre"])  # which decides nothing


def read_rows(out: str | Path) -> list[Row]:
    """Read the rows that a run left, in the order of methods' and cases' names."""
    found = (_read(path) for path in sorted((Path(out) / "rows").glob("*/*.json")))
    return [row for row in found if row is not None]


def _make_keys(
    methods: Mapping[str, System],
    cases: Sequence[Mapping[str, str]],
    bench: Bench,
    seed: int,
    profiles: Mapping[str, SourceProfile],
) -> dict[tuple[str, str], str]:
    """Name everything that decides each row, by method and case."""
    contents = {case["case"]: digest_case(case) for case in cases}
    keys = {}
    for name, system in methods.items():
        before = ""
        for case, content in contents.items():
            profile = profiles.get(case, bench.profile)
            key = digest(
                method=type(system.method).__name__,
                settings=_plain(system.settings),
                guarded=system.recipe is not None,
                case=(case, content),  # of a case's name its seed is made
                before=before if system.method.is_online else "",
                bench=bench.fingerprint,
                profile="" if profile is None else profile.to_json(),
                seed=seed,
                **({} if system.method.form == 1 else {"form": system.method.form}),
            )
            keys[name, case] = before = key
    return keys


def _locate(folder: Path, place: tuple[str, str]) -> Path:
    method, case = place
    return folder / method / f"{case}.json"


def _find_row(folder: Path, place: tuple[str, str], key: str) -> Row | None:
    """Find the row that an earlier run left, if it is of this key."""
    path = _locate(folder, place)
    row = _read(path) if path.exists() else None
    return row if row is not None and row.key == key else None


def _write(row: Row, path: Path) -> None:
    """Write a row whole or not at all; what is not finite is null."""
    ensure_writable(path.parent)
    text = json.dumps(_finite(asdict(row)), indent=2, allow_nan=False)
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _run(
    name: str,
    system: System,
    case: Mapping[str, str],
    prepared: Prepared,
    bench: Bench,
    memory: OnlineMemory | None,
) -> Row:
    settings = {key: _plain(value) for key, value in system.settings.items()}
    given: dict[str, Any] = {
        "method": name,
        "case": case["case"],
        "centre": case["centre"],
        "settings": settings,
    }
    refusal = system.method.unsupported(bench.network)
    if refusal:
        return Row(**given, refusal=refusal)
    episode = assign(prepared.episode, system, memory)
    try:
        with measured(bench.device) as cost:
            result = run_episode(bench.network, episode)
    except GrataError as error:
        logger.warning("%s on %s: %s", name, case["case"], error)
        return Row(**given, refusal=str(error))
    return Row(
        **given,
        **asdict(bench.score(result.logits, prepared)),
        **_take_notes(result),
        seconds=prepared.seconds + cost.seconds,
        peak_bytes=max(prepared.peak_bytes, cost.peak_bytes),
    )


def fit_system(system: System, bench: Bench) -> System:
    """Turn the views of a system's recipe to the axes of the bench's network."""
    if system.recipe is None or bench.fit is None:
        return system
    return grata_system(bench.fit(system.recipe), is_online=system.method.is_online)


def assign(episode: Episode, system: System, memory: OnlineMemory | None = None) -> Episode:
    """Put a system into an episode: a recipe of its own is guarded, a bare one is not."""
    recipe = system.recipe or episode.recipe
    protocol = "episodic" if memory is None else "online"
    return replace(
        episode,
        method=system.method,
        recipe=recipe.changed(seed=episode.recipe.seed, memory=protocol),
        memory=memory,
        is_guarded=system.recipe is not None,
    )


def _take_notes(result: EpisodeResult) -> dict[str, Any]:
    decision = result.decision
    cosines = [step.cosine for step in result.steps if step.cosine is not None]
    nan = float("nan")
    has_gain = result.mirrored_whole is not None
    return {
        "cosine": fmean(cosines) if cosines else nan,
        "agreement": nan if decision.consistency is None else decision.consistency,
        "mirror_gain": MIRROR_GAIN.measure(result.evidence) if has_gain else nan,
        "kept": str(decision.selected),
        **_compare_with_source(result),
        "light": "" if decision.quality is Quality.NONE else str(decision.quality),
        "shift": nan if result.source.shift is None else result.source.shift.percentile,
        "predicted": nan if result.predicted is None else result.predicted.dice,
        "signs": result.signs,
    }


def _compare_with_source(result: EpisodeResult) -> dict[str, Any]:
    """Say how far the prediction is from the source network's, and why if it is the same."""
    activation, reason = result.source.activation, result.reason
    change = float((probabilities(result.logits, activation) - result.source.maps).abs().max())
    if not reason and change == 0:
        reason = result.decision.reason or ("" if result.is_adapted else "no step was taken")
    one, two = (_to_label(logits, activation) for logits in (result.logits, result.source.logits))
    return {"reason": reason, "change": change, "relabelled": float((one != two).sum())}


def _to_label(logits: Tensor, activation: str) -> Tensor:
    """Label of each voxel; of each channel with sigmoid."""
    return logits > 0 if activation == "sigmoid" else logits.argmax(1)


def _plain(value: Any) -> Any:
    """Settings as JSON holds them."""
    try:
        return json.loads(json.dumps(value))
    except TypeError:
        return str(value)


def _read(path: Path) -> Row | None:
    """Read a row; None, with a warning that names the file, if it holds none."""
    numbers = [f.name for f in fields(Row) if isinstance(f.default, float)]
    try:
        given: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        missing = {name: math.nan for name in numbers if given.get(name, 0.0) is None}
        return Row(**{**given, **missing})
    except (AttributeError, OSError, TypeError, ValueError) as error:
        name = f"{path.parent.name}/{path.name}"
        logger.warning("rows/%s is no row (%s): left out", name, type(error).__name__)
        return None
