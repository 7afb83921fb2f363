"""The command line's ``serve`` and ``service``: options, call, report."""

import argparse
from pathlib import Path

__all__ = ["add_serve_options", "add_service_options", "run_serve", "run_service"]

ACTIONS = ("status", "pause", "resume", "drain", "retry", "cancel", "verify-audit")
NEEDING_A_CASE = ("retry", "cancel")


def add_serve_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``serve`` to its parser."""
    parser.add_argument(
        "--config", type=Path, required=True, metavar="FILE", help="configuration, a .toml file"
    )
    parser.add_argument(
        "--workers-only", action="store_true",
        help="open no door: another machine does, with the same folder and database",
    )  # fmt: skip


def add_service_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``service`` to its parser."""
    parser.add_argument("action", choices=ACTIONS, help="what to do")
    parser.add_argument(
        "key", nargs="?", default="", metavar="KEY", help="of a case, for retry and cancel"
    )
    parser.add_argument(
        "--config", type=Path, required=True, metavar="FILE", help="configuration, a .toml file"
    )


def run_serve(arguments: argparse.Namespace) -> str:
    """Serve until a signal asks to end.

    Args:
        arguments: With the options of `add_serve_options`.

    Returns:
        A report.

    Raises:
        ValueError: If the configuration breaks a rule.
        GrataError: If the service cannot start.
    """
    from grata_monai.service.serve import serve  # noqa: PLC0415

    return serve(arguments.config, workers_only=arguments.workers_only)


def run_service(arguments: argparse.Namespace) -> tuple[str, int]:
    """Look at, or steer, the service whose folder the configuration names.

    Args:
        arguments: With the options of `add_service_options`.

    Returns:
        The report, and the exit status: 1 for an audit log that does not hold.

    Raises:
        ValueError: If the configuration breaks a rule, or an action lacks its case.
        DatasetError: If there is no such case.
    """
    from grata_monai.service.config import read_config  # noqa: PLC0415
    from grata_monai.service.desk import Desk  # noqa: PLC0415

    action, key = arguments.action, arguments.key
    if bool(key) != (action in NEEDING_A_CASE):
        raise ValueError(
            f"{' and '.join(NEEDING_A_CASE)} must be given a case, the others none. "
            "Take its KEY from: service status"
        )
    desk = Desk(read_config(arguments.config))
    if action == "verify-audit":
        return desk.verify_audit()
    if key:
        return (desk.retry if action == "retry" else desk.cancel)(key), 0
    return desk.status() if action == "status" else desk.switch(action), 0
