"""Run methods over cases, one row each; what is done stays done when a run is killed."""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from grata_monai.core.errors import GrataError
from grata_monai.core.files import atomic_path, ensure_writable
from grata_monai.experiments.harness.bench import Bench, Prepared
from grata_monai.experiments.harness.cost import measured
from grata_monai.methods.method import Method

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
        cosine: As in `Notes`, like the next four.
        agreement: As in `Notes`.
        mirror_gain: As in `Notes`.
        kept: As in `Notes`.
        light: As in `Notes`.
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
    methods: Mapping[str, Method],
    cases: Sequence[Mapping[str, str]],
    bench: Bench,
    out: str | Path,
    *,
    seed: int = 0,
) -> Iterator[Row]:
    """Run every method on every case that has no row yet.

    Args:
        methods: Name to method.
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
    states = {name: _start_online(method, bench) for name, method in methods.items()}
    for case in cases:
        prepared: Prepared | None = None
        for name, method in methods.items():
            path = folder / name / f"{case['case']}.json"
            # an online method must meet its cases again, or it would go on from nowhere
            if path.exists() and not (method.is_online and _is_open(folder / name, cases)):
                yield _read(path)
                continue
            prepared = prepared or bench.prepare(case, seed=seed)
            row = _run(name, method, case, prepared, bench, states[name])
            ensure_writable(path.parent)
            with atomic_path(path) as temporary:
                temporary.write_text(json.dumps(asdict(row), indent=2) + "\n", encoding="utf-8")
            yield row


def read_rows(out: str | Path) -> list[Row]:
    """Read the rows that a run left, in the order of methods' and cases' names."""
    return [_read(path) for path in sorted((Path(out) / "rows").glob("*/*.json"))]


def _start_online(method: Method, bench: Bench) -> Any:
    if not method.is_online or method.refusal(bench.network, _activation(bench)):
        return None
    return method.start(bench.network, _activation(bench))


def _activation(bench: Bench) -> str:
    return "softmax" if bench.activation == "auto" else bench.activation


def _is_open(folder: Path, cases: Iterable[Mapping[str, str]]) -> bool:
    return not all((folder / f"{case['case']}.json").exists() for case in cases)


def _run(
    name: str,
    method: Method,
    case: Mapping[str, str],
    prepared: Prepared,
    bench: Bench,
    state: Any,
) -> Row:
    settings = {key: _plain(value) for key, value in vars(method).items()}
    given: dict[str, Any] = {
        "method": name,
        "case": case["case"],
        "centre": case["centre"],
        "settings": settings,
    }
    activation = prepared.case.activation
    refusal = method.refusal(bench.network, activation)
    if refusal:
        return Row(**given, refusal=refusal)
    try:
        with measured(bench.device) as cost:
            if state is None:
                state = method.start(bench.network, activation)
            logits = method.segment(prepared.case, state)
    except GrataError as error:
        logger.warning("%s on %s: %s", name, case["case"], error)
        return Row(**given, refusal=str(error))
    return Row(
        **given,
        **asdict(bench.score(logits, prepared)),
        **asdict(method.notes(state)),
        seconds=prepared.seconds + cost.seconds,
        peak_bytes=max(prepared.peak_bytes, cost.peak_bytes),
    )


def _plain(value: Any) -> Any:
    """Settings as JSON holds them."""
    try:
        return json.loads(json.dumps(value))
    except TypeError:
        return str(value)


def _read(path: Path) -> Row:
    return Row(**json.loads(path.read_text(encoding="utf-8")))
