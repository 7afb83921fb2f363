"""Run methods over cases, one row each; what is done stays done when a run is killed."""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from grata_monai.adapt.episode import EpisodeResult, run_episode
from grata_monai.adapt.method import Episode, OnlineMemory
from grata_monai.adapt.scores import Quality
from grata_monai.adapt.scores.mirror_gain import SCORE as MIRROR_GAIN
from grata_monai.core.errors import GrataError
from grata_monai.core.files import atomic_path, ensure_writable
from grata_monai.experiments.harness.bench import Bench, Prepared
from grata_monai.experiments.harness.cost import measured
from grata_monai.methods.registry import System

__all__ = ["Row", "read_rows", "run_methods"]

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
        light: The guard's quality flag; empty without.
        settings: The method's hyper-parameters.
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
    light: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


def run_methods(
    methods: Mapping[str, System],
    cases: Sequence[Mapping[str, str]],
    bench: Bench,
    out: str | Path,
    *,
    seed: int = 0,
) -> Iterator[Row]:
    """Run every method on every case that has no row yet.

    Args:
        methods: Name to system.
        cases: Of `list_cases`, with labels.
        bench: The bundle.
        out: Folder of rows, ``rows/METHOD/CASE.json``; made if missing.
        seed: Of everything random.

    Yields:
        Every row, also those that an earlier run left. A method that refuses the network, or fails
        on a case, has a row that says why.

    Raises:
        OutputError: If the folder cannot be written.
    """
    folder = ensure_writable(Path(out)) / "rows"
    memories = {
        name: OnlineMemory() if system.method.is_online else None
        for name, system in methods.items()
    }
    for case in cases:
        prepared: Prepared | None = None
        for name, system in methods.items():
            path = folder / name / f"{case['case']}.json"
            # an online method must meet its cases again, or it would go on from nowhere
            if path.exists() and not (memories[name] and _is_open(folder / name, cases)):
                yield _read(path)
                continue
            prepared = prepared or bench.prepare(case, seed=seed)
            row = _run(name, system, case, prepared, bench, memories[name])
            ensure_writable(path.parent)
            with atomic_path(path) as temporary:
                temporary.write_text(json.dumps(asdict(row), indent=2) + "\n", encoding="utf-8")
            yield row


def read_rows(out: str | Path) -> list[Row]:
    """Read the rows that a run left, in the order of methods' and cases' names."""
    return [_read(path) for path in sorted((Path(out) / "rows").glob("*/*.json"))]


def _is_open(folder: Path, cases: Iterable[Mapping[str, str]]) -> bool:
    return not all((folder / f"{case['case']}.json").exists() for case in cases)


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
    episode = _assign(prepared.episode, system, memory)
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


def _assign(episode: Episode, system: System, memory: OnlineMemory | None) -> Episode:
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
        "light": "" if decision.quality is Quality.NONE else str(decision.quality),
    }


def _plain(value: Any) -> Any:
    """Settings as JSON holds them."""
    try:
        return json.loads(json.dumps(value))
    except TypeError:
        return str(value)


def _read(path: Path) -> Row:
    return Row(**json.loads(path.read_text(encoding="utf-8")))
