"""The command line's ``send`` and ``fetch``: options, call, report.

Imports what it calls only when it is called, so that ``--help`` needs no network library.
"""

import argparse
from pathlib import Path
from types import ModuleType
from typing import Any

from grata_monai.core.errors import TransferError
from grata_monai.transfer.temporary import end_by_exception

__all__ = ["add_fetch_options", "add_send_options", "run_fetch", "run_send"]


def add_send_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``send`` to its parser."""
    parser.add_argument(
        "files", type=Path, nargs="+", metavar="FILE", help="DICOM files, or folders of results"
    )
    parser.add_argument(
        "--destination",
        required=True,
        metavar="ADDRESS",
        help="dicoms://TITLE@HOST:PORT or dicomwebs://HOST/PATH",
    )
    parser.add_argument(
        "--commitment",
        nargs="?",
        const="",
        metavar="HOST:PORT",
        help="ask for storage commitment; listen there for a report on a new association",
    )
    _add_common_options(parser)


def add_fetch_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``fetch`` to its parser."""
    parser.add_argument(
        "--source",
        required=True,
        metavar="ADDRESS",
        help="dicomwebs://HOST/PATH?study=UID&series=UID",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="new or empty folder"
    )
    _add_common_options(parser)


def run_send(arguments: argparse.Namespace) -> str:
    """Send, and say what became of it.

    Args:
        arguments: With the options of `add_send_options`.

    Returns:
        The report.

    Raises:
        ValueError: If an option breaks a rule.
        GrataError: From `grata_monai.transfer.exchange.send`; also if a commitment was asked for
            and failed.
    """
    exchange = _import_exchange()
    commitment = (
        None if arguments.commitment is None else exchange.Commitment(reply=arguments.commitment)
    )
    report = exchange.send(
        arguments.files,
        arguments.destination,
        commitment=commitment,
        **_common(exchange, arguments),
    )
    if report.commitment == "failed":
        raise TransferError(
            f"peer must commit to keeping what it stored: {report.note}. All "
            f"{report.instances} instance(s) are stored; ask its administrator, or send again."
        )
    return str(report)


def run_fetch(arguments: argparse.Namespace) -> str:
    """Fetch, and say what came.

    Args:
        arguments: With the options of `add_fetch_options`.

    Returns:
        The report.

    Raises:
        ValueError: If an option breaks a rule.
        GrataError: From `grata_monai.transfer.exchange.fetch`.
    """
    exchange = _import_exchange()
    end_by_exception()  # so that nothing half-fetched stays
    fetched = exchange.fetch(arguments.source, arguments.out, **_common(exchange, arguments))
    return (
        f"fetched {fetched.instances} instance(s) of {fetched.series} series, "
        f"{fetched.size_bytes / 2**20:.1f} MiB, to {arguments.out}"
    )


def _add_common_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ca", type=Path, metavar="FILE", help="authorities to trust (PEM)")
    parser.add_argument("--certificate", type=Path, metavar="FILE", help="our certificate (PEM)")
    parser.add_argument("--key", type=Path, metavar="FILE", help="its key (PEM, not encrypted)")
    parser.add_argument(
        "--credentials",
        type=Path,
        metavar="FILE",
        help="one line: Bearer TOKEN or Basic USER:PASSWORD (default: $GRATA_TRANSFER_TOKEN, or "
        "$GRATA_TRANSFER_USER and $GRATA_TRANSFER_PASSWORD)",
    )
    parser.add_argument(
        "--insecure", action="store_true", help="allow clear text beyond this machine"
    )
    parser.add_argument(
        "--attempts", type=int, default=5, metavar="N", help="tries in all (default: 5)"
    )


def _import_exchange() -> ModuleType:
    try:
        from grata_monai.transfer import exchange  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise TransferError(
            f"the extra 'dicom' must be installed, {error.name} is missing. "
            "Run pip install 'grata-monai[dicom]'."
        ) from error
    return exchange


def _common(exchange: ModuleType, arguments: argparse.Namespace) -> dict[str, Any]:
    """What `send` and `fetch` take both."""
    return {
        "security": exchange.Security(
            ca=arguments.ca,
            certificate=arguments.certificate,
            key=arguments.key,
            credentials=arguments.credentials,
            is_insecure=arguments.insecure,
        ),
        "retry": exchange.Retry(attempts=arguments.attempts),
    }
