"""The options, call and report of ``python -m tools.compliance``.

Imports what it calls only when it is called, so that ``--help`` needs no deep-learning framework.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from grata_monai.cli import run

__all__ = ["main"]

EXIT_OK = 0
EXIT_OUTDATED = 1
BUNDLE = "bundle/"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool.

    Args:
        argv: Arguments after the program's name; those of the process if None.

    Returns:
        Exit status: 0 after success, 1 if a page is out of date, 2 if the arguments were refused.
    """
    parser = argparse.ArgumentParser(
        prog="python -m tools.compliance",
        description="Say whether the generated parts of the documentation are up to date, or "
        "write them; or write a bill of materials. Run it in the repository.",
    )
    _add_options(parser)
    parser.set_defaults(run=_run)
    return run(parser, argv)


def _add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to the parser."""
    parser.add_argument(
        "--root", type=Path, default=Path(), metavar="DIR", help="of the repository (default: .)"
    )
    parser.add_argument(
        "--write", action="store_true", help="write what differs, instead of naming it"
    )
    parser.add_argument(
        "--sbom",
        type=Path,
        metavar="FILE",
        help="write a CycloneDX bill of materials and do nothing else",
    )


def _run(arguments: argparse.Namespace) -> tuple[str, int]:
    """Compare the generated parts of the documentation with what they are made from.

    Args:
        arguments: With the options of `_add_options`.

    Returns:
        The report, and the exit status: 1 if a page is out of date and was not written.

    Raises:
        DatasetError: If `root` is not the repository, or the environment is not the locked one.
        BundleError: If the bundle is not as its manifest says; for ``--sbom`` only.
        OutputError: If a file cannot be written.
    """
    if arguments.sbom:
        from tools.compliance.sbom import write_sbom  # noqa: PLC0415

        count = write_sbom(arguments.root, arguments.sbom)
        return f"wrote {arguments.sbom}: {count} components", EXIT_OK

    from tools.compliance.pages import find_outdated, write_pages  # noqa: PLC0415

    outdated = find_outdated(arguments.root)
    if not arguments.write:
        lines = [f"{page} is out of date; run: make compliance" for page in outdated]
        return "\n".join(lines or ["every page is up to date"]), EXIT_OUTDATED * bool(outdated)
    write_pages(arguments.root, outdated)
    lines = [f"wrote {page}" for page in outdated]
    if any(page.startswith(BUNDLE) for page in outdated):
        lines.append("the bundle changed; run: python -m grata_monai lint --write-manifest bundle")
    return "\n".join(lines or ["every page was up to date"]), EXIT_OK
