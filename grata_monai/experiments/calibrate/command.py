"""The command line's ``calibrate``: options, call, report.

Imports what it calls only when it is called, so that ``--help`` needs no deep-learning framework.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grata_monai.core.errors import RecipeError
from grata_monai.experiments.compare.command import (
    add_case_options,
    list_labelled_cases,
    open_on,
    split_centre,
)
from grata_monai.experiments.harness.options import describe_weights, read_settings
from grata_monai.spread.options import add_worker_options, read_workers

if TYPE_CHECKING:
    from grata_monai.report.reviews import Review

__all__ = ["add_calibrate_options", "run_calibrate"]


def add_calibrate_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``calibrate`` to its parser."""
    add_case_options(parser)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda:0, ... (default: auto)")
    parser.add_argument("--base", default="clinical", help="recipe to vary (default: clinical)")
    parser.add_argument(
        "--candidates",
        type=Path,
        metavar="FILE",
        help="a .json file of candidates, names to settings, in place of the built-in ones",
    )
    parser.add_argument(
        "--observe",
        action="append",
        default=[],
        metavar="CENTRE=DIR",
        help="further source cases, labelled or not: one pass each, for the source profile; alone, "
        "without --cases, only the profile is made; may be given several times",
    )
    parser.add_argument(
        "--shifts", nargs="+", default=[], metavar="NAME", help="which (default: all)"
    )
    parser.add_argument(
        "--most-harm",
        type=float,
        default=0.02,
        metavar="SHARE",
        help="largest allowed share of cases and shifts that lose (default: 0.02)",
    )
    parser.add_argument(
        "--reviews",
        type=Path,
        metavar="LOG",
        help="a run's reviews.jsonl: what readers edited or rejected may raise the amber limit",
    )
    add_worker_options(parser)


def run_calibrate(arguments: argparse.Namespace) -> str:
    """Run all candidates under all shifts, choose, and write recipe and report.

    Args:
        arguments: With the options of `add_calibrate_options`; `out` is a ``.json`` file, and
            the rows go into the folder of its name.

    Returns:
        The report.

    Raises:
        DatasetError: If there are no cases, or a label is missing.
        RecipeError: If a candidate is wrong.
        ValueError: If a setting or another option is.
        WeightsError: If weights are not there, or do not fit.
    """
    from grata_monai.experiments.calibrate.run import (  # noqa: PLC0415
        Settings,
        calibrate,
        describe_source,
    )
    from grata_monai.experiments.calibrate.shifts import check_shifts  # noqa: PLC0415
    from grata_monai.experiments.harness.devices import open_in_turn  # noqa: PLC0415
    from grata_monai.experiments.harness.provenance import describe_run  # noqa: PLC0415
    from grata_monai.write.commit import claim  # noqa: PLC0415

    if arguments.out.suffix != ".json":
        raise ValueError(f"out must be a .json file, got {arguments.out.name!r}. Add the ending.")
    settings = Settings(
        shifts=check_shifts(arguments.shifts),
        candidates=_read(arguments.candidates) if arguments.candidates else {},
        base=arguments.base,
        most_harm=arguments.most_harm,
        seed=arguments.seed,
        reviews=_read_log(arguments.reviews),
    )
    has_cases = arguments.cases or arguments.images or arguments.labels
    is_observed = arguments.observe and not has_cases
    cases = [] if is_observed else list_labelled_cases(arguments)
    given = read_settings(arguments)
    if arguments.out.parent.is_dir():
        with claim(arguments.out.parent):
            pass  # what a killed run had finished is put in place
    others = [c for text in arguments.observe for c in _list_observed(text, arguments.network)]
    weights = describe_weights(given)
    workers = read_workers(arguments)
    opened = partial(open_on, arguments.network, given, arguments.unverified)
    bench = opened(arguments.device)
    crew = None if workers.is_one else (partial(open_in_turn, opened, [arguments.device]), workers)
    if is_observed:
        report = describe_source(others, bench, arguments.out, seed=arguments.seed)
        return f"{report}\nwrote {arguments.out}"
    facts = (
        describe_run(
            device=str(bench.device),
            bundle=bench.bundle,
            precision=bench.precision,
            seed=arguments.seed,
        )
        | weights
    )
    page, report = calibrate(
        cases, bench, arguments.out, settings, facts=facts, others=others, crew=crew
    )
    return f"{report}\nwrote {arguments.out} and {page}"


def _list_observed(text: str, network: Path) -> list[dict[str, str]]:
    """The cases of a folder, with labels where it has them."""
    from grata_monai.experiments.harness.cases import list_centre  # noqa: PLC0415

    centre, folder = split_centre(text)
    has_labels = (Path(folder) / "labels").is_dir()
    return list_centre(network, Path(folder), centre, labels=has_labels)


def _read_log(path: Path | None) -> "Sequence[Review]":
    from grata_monai.report.reviews import read_reviews  # noqa: PLC0415

    if path is None:
        return []
    if not path.is_file():
        raise ValueError(f"reviews must be a log, {path.name!r} is no file. Give reviews.jsonl.")
    return read_reviews(path)


def _read(path: Path) -> Mapping[str, Mapping[str, Any]]:
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecipeError(
            f"candidates must be a readable .json file, {path.name!r} is not: {error}"
        ) from error
    is_nested = isinstance(found, dict) and all(isinstance(v, dict) for v in found.values())
    if not is_nested or not found or "source" in found:
        raise RecipeError(
            "candidates must be an object of names to settings without 'source', "
            f'{path.name!r} is not. Write {{"mine": {{"steps": 3}}}}.'
        )
    return dict(found)
