"""The command line's ``calibrate``: options, call, report.

Imports what it calls only when it is called, so that ``--help`` needs no deep-learning framework.
"""

import argparse
import json
import platform
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grata_monai.compare.command import add_case_options, list_labelled_cases
from grata_monai.errors import RecipeError

if TYPE_CHECKING:
    from grata_monai.compare.run import Row

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
        "--shifts", nargs="+", default=[], metavar="NAME", help="which (default: all)"
    )
    parser.add_argument(
        "--most-harm",
        type=float,
        default=0.02,
        metavar="SHARE",
        help="largest allowed share of cases and shifts that lose (default: 0.02)",
    )


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
        ValueError: If another option is.
    """
    import torch  # noqa: PLC0415

    from grata_monai.calibrate.candidates import default_candidates, make_candidates  # noqa: PLC0415
    from grata_monai.calibrate.choose import choose  # noqa: PLC0415
    from grata_monai.calibrate.report import write_choice  # noqa: PLC0415
    from grata_monai.calibrate.search import run_candidates, to_scores  # noqa: PLC0415
    from grata_monai.calibrate.shifts import check_shifts  # noqa: PLC0415
    from grata_monai.compare.bench import open_bench  # noqa: PLC0415
    from grata_monai.compare.progress import show_progress  # noqa: PLC0415

    if arguments.out.suffix != ".json":
        raise ValueError(f"out must be a .json file, got {arguments.out.name!r}. Add the ending.")
    shifts = check_shifts(arguments.shifts)
    given = _read(arguments.candidates) if arguments.candidates else {}
    cases = list_labelled_cases(arguments)
    settings = {"precision": arguments.precision, "device#name": arguments.device}
    bench = open_bench(arguments.network, settings=settings, unverified=arguments.unverified)
    given = given or default_candidates(bench.network)
    candidates = make_candidates(given, arguments.base, precision=arguments.precision)
    folder = arguments.out.with_suffix("")
    found: list[tuple[str, Row]] = []

    def remember() -> Iterator["Row"]:
        for pair in run_candidates(
            candidates, cases, bench, folder, shifts=shifts, seed=arguments.seed
        ):
            found.append(pair)
            yield pair[1]

    show_progress(remember(), total=(len(candidates) + 1) * len(cases) * len(shifts))
    scores, refused = to_scores(found)
    choice = choose(scores, most_harm=arguments.most_harm)
    facts = {
        "command": shlex.join(["python", "-m", "grata_monai", *sys.argv[1:]]),
        "device": f"{bench.device}, {torch.get_num_threads()} thread(s), {platform.machine()}",
        "bundle": bench.bundle,
        "precision": arguments.precision,
        "torch": torch.__version__,
        "seed": str(arguments.seed),
    }
    written = {name: {"base": arguments.base, **values} for name, values in given.items()}
    page, report = write_choice(
        choice, scores, written, arguments.out, facts=facts, refused=refused
    )
    return f"{report}\nwrote {arguments.out} and {page}"


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
