"""Serve a run's reports for review: what ``python -m grata_monai review`` does."""

import argparse
import sys
from pathlib import Path

from grata_monai.report.reviews import LOG
from grata_monai.report.rows import FOLDER
from grata_monai.report.server import ReviewServer

__all__ = ["add_review_options", "run_review"]


def add_review_options(parser: argparse.ArgumentParser) -> None:
    """Describe the options."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="output folder of a run")
    parser.add_argument(
        "--port", type=int, default=0, metavar="N", help="of 127.0.0.1 (default: a free one)"
    )


def run_review(arguments: argparse.Namespace) -> str:
    """Serve until Ctrl-C.

    Returns:
        What to print at the end.

    Raises:
        ValueError: If the folder holds no reports, or the port is taken.
    """
    folder: Path = arguments.folder
    if not (folder / FOLDER).is_dir():
        raise ValueError(
            f"DIR must hold reports in {FOLDER}/, {folder.name!r} does not. Run the bundle with "
            "report true, and give its output_dir."
        )
    try:
        server = ReviewServer(folder, arguments.port)
    except OSError as error:
        raise ValueError(
            f"port must be free, {arguments.port} is not: {error.strerror}. Give another one."
        ) from error
    sys.stderr.write(f"open {server.address}\nCtrl-C ends it\n")
    sys.stderr.flush()
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
    return f"reviews, if there are any, are in {folder / LOG}"
