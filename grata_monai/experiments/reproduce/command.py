"""The command line's ``benchmark``: options, call, report.

Imports what it calls only when it is called, so that ``--help`` needs no deep-learning framework.
"""

import argparse
from pathlib import Path

from grata_monai.experiments.harness.options import (
    add_network_options,
    describe_weights,
    read_settings,
)

__all__ = ["NAMES", "add_benchmark_options", "run_benchmark"]

NAMES = ("promise12", "hippocampus", "fundus", "objectives")


def add_benchmark_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``benchmark`` to its parser."""
    parser.add_argument("name", choices=NAMES, help="which experiment")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="its data set")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    add_network_options(parser)
    parser.add_argument(
        "--methods", nargs="+", default=[], metavar="NAME", help="which (default: all)"
    )
    parser.add_argument(
        "--against",
        nargs="+",
        default=[],
        metavar="NAME",
        help="also compare all methods with these, which must be among --methods",
    )
    parser.add_argument(
        "--cases", type=int, default=20, metavar="N", help="most per centre (default: 20)"
    )
    parser.add_argument(
        "--shifts",
        nargs="+",
        default=[],
        metavar="NAME",
        help="of hippocampi (default: all)",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda:0, ... (default: auto)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed (default: 0)")


def run_benchmark(arguments: argparse.Namespace) -> str:
    """Run all parts of an experiment, and write a report for each.

    Args:
        arguments: With the options of `add_benchmark_options`.

    Returns:
        All tables.

    Raises:
        BundleError: If the bundle is not as its manifest says; nothing of it was parsed then.
        DatasetError: If the data are not there.
        ValueError: If a setting or another option is wrong.
        WeightsError: If weights are not there, or do not fit.
    """
    from grata_monai.bundle.verify import describe_verified, verify_bundle  # noqa: PLC0415
    from grata_monai.experiments.calibrate.shifts import check_shifts  # noqa: PLC0415
    from grata_monai.experiments.compare.report import write_report  # noqa: PLC0415
    from grata_monai.experiments.harness.provenance import describe_run  # noqa: PLC0415
    from grata_monai.experiments.reproduce.fundus import fundus  # noqa: PLC0415
    from grata_monai.experiments.reproduce.hippocampus import hippocampus, objectives  # noqa: PLC0415
    from grata_monai.experiments.reproduce.promise12 import promise12  # noqa: PLC0415
    from grata_monai.experiments.reproduce.run import Options, run_part  # noqa: PLC0415

    if arguments.cases < 1:
        raise ValueError(f"cases must be at least 1, got {arguments.cases}. Take 20.")
    makes = {"promise12": promise12, "hippocampus": hippocampus, "fundus": fundus}
    makes["objectives"] = objectives
    parts = makes[arguments.name](
        arguments.data,
        cases=arguments.cases,
        shifts=check_shifts(arguments.shifts),
        seed=arguments.seed,
    )
    settings = read_settings(arguments)
    verified = verify_bundle(arguments.network, unverified=arguments.unverified)
    facts = describe_run(
        device=arguments.device,
        bundle=describe_verified(verified),
        precision=settings["precision"],
        seed=arguments.seed,
    ) | describe_weights(settings)
    options = Options(
        bundle_dir=arguments.network,
        methods=arguments.methods,
        settings=settings,
        device=arguments.device,
        seed=arguments.seed,
        facts=facts,
        unverified=arguments.unverified,
    )
    pages = []
    for part in parts:
        rows = run_part(part, arguments.out / part.name, options)
        report = write_report(
            rows,
            arguments.out / part.name,
            facts={"part": part.name, **facts},
            seed=arguments.seed,
            against=arguments.against,
            groups={"foreign": [c for c in dict.fromkeys(r.centre for r in rows) if c != "source"]},
        )
        pages.append(f"{report.read_text(encoding='utf-8')}\nwrote {report}")
    return "\n".join(pages)
