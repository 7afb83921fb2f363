"""Options of commands that can use several workers."""

import argparse
from typing import Any

from grata_monai.spread.run import Workers

__all__ = ["add_worker_options", "read_workers"]


def add_worker_options(parser: argparse.ArgumentParser) -> None:
    """Add what says how many workers there are, and where."""
    group = parser.add_argument_group("several workers (extra: service; for SLURM also: slurm)")
    group.add_argument("--workers", type=int, metavar="N", help="processes that share the work")
    group.add_argument(
        "--slurm", nargs="*", metavar="KEY=VALUE",
        help="workers are jobs of SLURM, with these settings of submitit, such as "
        "slurm_partition=gpu timeout_min=60 gpus_per_node=1",
    )  # fmt: skip
    group.add_argument(
        "--queue", default="", metavar="URL",
        help="postgresql://..., where nodes cannot share a file of SQLite",
    )  # fmt: skip


def read_workers(arguments: argparse.Namespace, *, default: int = 1) -> Workers:
    """Read them.

    Args:
        arguments: With the options of `add_worker_options`.
        default: How many there are if nobody says.

    Raises:
        ValueError: If one of them is wrong.
    """
    given = arguments.slurm
    slurm = None if given is None else dict(_read_pair(text) for text in given)
    count = default if arguments.workers is None else arguments.workers
    return Workers(count, slurm, arguments.queue)


def _read_pair(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise ValueError(f"--slurm must have KEY=VALUE, got {text!r}. Write timeout_min=60.")
    return key, int(value) if value.isdecimal() else value
