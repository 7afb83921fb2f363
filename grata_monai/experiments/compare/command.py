"""The command line's ``compare``: options, call, report.

Imports what it calls only when it is called, so that ``--help`` needs no deep-learning framework.
"""

import argparse
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grata_monai.core.errors import DatasetError
from grata_monai.experiments.harness.options import (
    add_network_options,
    describe_weights,
    read_settings,
)
from grata_monai.spread.options import add_worker_options, read_workers

if TYPE_CHECKING:
    from grata_monai.experiments.harness.bench import Bench

__all__ = [
    "add_case_options",
    "add_compare_options",
    "list_labelled_cases",
    "open_on",
    "run_compare",
    "split_centre",
]


def add_compare_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``compare`` to its parser."""
    add_case_options(parser)
    parser.add_argument(
        "--device",
        nargs="+",
        default=["auto"],
        metavar="DEVICE",
        help="auto, cpu, cuda:0, ...; several run at once, a worker each (default: auto)",
    )
    parser.add_argument(
        "--methods", nargs="+", default=[], metavar="NAME", help="which (default: all)"
    )
    parser.add_argument(
        "--against",
        nargs="+",
        default=[],
        metavar="NAME",
        help="also compare all methods with these, not with the source alone",
    )
    parser.add_argument(
        "--forecast",
        action="store_true",
        help="run the first case alone, and say how long all will take; its rows are kept",
    )
    add_worker_options(parser)


def add_case_options(parser: argparse.ArgumentParser) -> None:
    """Add what says which labelled cases run on which bundle, and how."""
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder of images")
    parser.add_argument("--labels", type=Path, metavar="DIR", help="labels of the same names")
    parser.add_argument(
        "--cases",
        action="append",
        default=[],
        metavar="CENTRE=DIR",
        help="a centre's folder with images/ and labels/; may be given several times",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    add_network_options(parser)
    parser.add_argument("--only", nargs="+", default=[], metavar="CASE", help="these cases alone")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed (default: 0)")


def run_compare(arguments: argparse.Namespace) -> str:
    """Run all methods on all cases, and write the report.

    Args:
        arguments: With the options of `add_compare_options`.

    Returns:
        The report's tables; with ``--forecast`` how long it would take.

    Raises:
        DatasetError: If there are no cases, or a label is missing.
        ValueError: If a method, a setting or another option is unknown.
        WeightsError: If weights are not there, or do not fit.
    """
    from grata_monai.bundle import choose_device  # noqa: PLC0415
    from grata_monai.experiments.compare.pictures import draw_extremes  # noqa: PLC0415
    from grata_monai.experiments.compare.report import write_report  # noqa: PLC0415
    from grata_monai.experiments.harness.devices import run_on_devices  # noqa: PLC0415
    from grata_monai.experiments.harness.opening import verify_network  # noqa: PLC0415
    from grata_monai.experiments.harness.progress import (  # noqa: PLC0415
        describe_forecast,
        show_progress,
    )
    from grata_monai.experiments.harness.provenance import describe_run  # noqa: PLC0415
    from grata_monai.experiments.harness.run import run_methods  # noqa: PLC0415
    from grata_monai.methods.registry import make_systems  # noqa: PLC0415

    methods = make_systems(arguments.methods) | make_systems(arguments.against or ["source"])
    settings = read_settings(arguments)
    devices = [str(choose_device(name)) for name in arguments.device]
    workers = read_workers(arguments, default=len(devices))
    facts = describe_run(
        device=", ".join(devices),
        bundle=verify_network(arguments.network, unverified=arguments.unverified),
        precision=settings["precision"],
        seed=arguments.seed,
    ) | describe_weights(settings)
    cases = list_labelled_cases(arguments)
    count = len(cases)
    opened = partial(open_on, arguments.network, settings, arguments.unverified)
    if arguments.forecast:
        cases = cases[:1]
    out, seed = arguments.out, arguments.seed
    if workers.is_one:
        rows = run_methods(methods, cases, opened(devices[0]), out, seed=seed)
    else:
        rows = run_on_devices(methods, cases, opened, devices, out, workers=workers, seed=seed)
    done = show_progress(rows, total=len(methods) * len(cases))
    if arguments.forecast:
        return describe_forecast(done, cases=count, workers=workers.count)
    pictures = draw_extremes(done, cases, methods, opened(devices[0]), out, seed=seed)
    names = [case["case"] for case in cases]
    report = write_report(
        sorted(done, key=lambda row: (list(methods).index(row.method), names.index(row.case))),
        out,
        facts=facts,
        seed=seed,
        against=arguments.against,
        pictures=pictures,
    )
    return f"{report.read_text(encoding='utf-8')}\nwrote {report}"


def open_on(network: Path, settings: Mapping[str, Any], unverified: bool, device: str) -> "Bench":
    """Open the bundle of `add_network_options` on a device."""
    from grata_monai.experiments.harness.opening import open_bench  # noqa: PLC0415

    here = {"device#name": device, **settings}
    return open_bench(network, settings=here, unverified=unverified)


def list_labelled_cases(arguments: argparse.Namespace) -> list[dict[str, str]]:
    """List the cases that the options of `add_case_options` name.

    Raises:
        DatasetError: If they name none, a label is missing, or two cases have one name.
    """
    from grata_monai.experiments.harness.cases import list_centre, list_pairs  # noqa: PLC0415
    from grata_monai.read.cases import select_cases  # noqa: PLC0415

    if bool(arguments.cases) == bool(arguments.images or arguments.labels):
        raise DatasetError(
            "cases must be given as --images and --labels, or as --cases CENTRE=DIR, got "
            f"{'both' if arguments.cases else 'neither'}. Use one way."
        )
    found = []
    if arguments.images or arguments.labels:
        if arguments.images is None or arguments.labels is None:
            raise DatasetError("--images and --labels must both be given, got one. Add the other.")
        found += list_pairs(arguments.network, arguments.images, arguments.labels)
    for text in arguments.cases:
        centre, folder = split_centre(text)
        found += list_centre(arguments.network, Path(folder), centre, labels=True)
    names = [case["case"] for case in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DatasetError(f"names of cases must differ, {twice[0]!r} is there twice. Rename one.")
    return select_cases(found, only=arguments.only) if arguments.only else found


def split_centre(text: str) -> tuple[str, str]:
    """Split ``CENTRE=DIR``.

    Raises:
        DatasetError: If it is not of that form.
    """
    centre, _, folder = text.partition("=")
    if not (centre and folder):
        raise DatasetError(f"cases must be CENTRE=DIR, got {text!r}. Write --cases north=/data/a.")
    return centre, folder
