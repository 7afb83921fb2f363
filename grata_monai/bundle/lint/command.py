"""The command line's ``lint``: options, call, report.

Imports what it calls only when it is called, so that ``--help`` needs no deep-learning framework.
"""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from grata_monai.bundle.lint.finding import Finding
    from grata_monai.bundle.lint.zoo import Check

__all__ = ["add_lint_options", "run_lint"]

EXIT_OK = 0
EXIT_FOUND = 1


def add_lint_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``lint`` to its parser."""
    parser.add_argument("bundle_dir", type=Path, metavar="BUNDLE", help="root of the bundle")
    parser.add_argument(
        "--write-manifest",
        action="store_true",
        help="first write manifest.sha256 anew, for the files as they are now",
    )
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="NAME",
        help="one more name for the allow-list, package.module.name or .attribute; repeatable",
    )
    parser.add_argument("--list-allowed", action="store_true", help="print the allow-list first")
    parser.add_argument(
        "--zoo", action="store_true", help="then run the MONAI zoo's own checks: builds the bundle"
    )
    parser.add_argument("--schema", type=Path, metavar="FILE", help="of the metadata, for --zoo")
    parser.add_argument("--json", action="store_true", help="report as JSON")


def run_lint(arguments: argparse.Namespace) -> tuple[str, int]:
    """Check a bundle.

    Args:
        arguments: With the options of `add_lint_options`.

    Returns:
        The report, and the exit status: 1 if there is a finding or a check of the zoo failed.

    Raises:
        BundleError: If the folder is no bundle, or a file cannot be read.
        OutputError: If the manifest cannot be written.
        ValueError: If an option is wrong.
    """
    from grata_monai.bundle.lint.rules import check_bundle  # noqa: PLC0415
    from grata_monai.bundle.lint.targets import allowed_names  # noqa: PLC0415
    from grata_monai.bundle.verify import manifest_digest, write_manifest  # noqa: PLC0415

    if arguments.schema and not arguments.schema.is_file():
        raise ValueError(f"schema must be a file, {arguments.schema.name!r} is none.")
    if arguments.write_manifest:
        write_manifest(arguments.bundle_dir)
    allowed = allowed_names(arguments.allow)
    findings = check_bundle(arguments.bundle_dir, allowed=allowed)
    checks = _run_zoo(arguments, findings) if arguments.zoo else []
    status = EXIT_FOUND if findings or any(c.outcome == "failed" for c in checks) else EXIT_OK
    digest = manifest_digest(arguments.bundle_dir)
    names = sorted(allowed) if arguments.list_allowed else []
    report = _to_json if arguments.json else _to_text
    return report(findings, checks, names, digest), status


def _run_zoo(arguments: argparse.Namespace, findings: "list[Finding]") -> "list[Check]":
    from grata_monai.bundle.lint.zoo import Check, run_zoo_checks  # noqa: PLC0415

    if findings:
        return [Check("all of the zoo", "skipped", "only a bundle without findings is built")]
    return run_zoo_checks(arguments.bundle_dir, schema=arguments.schema)


def _to_json(
    findings: "list[Finding]", checks: "list[Check]", names: list[str], digest: str
) -> str:
    content = {
        "manifest_sha256": digest or None,
        "findings": [finding.to_dict() for finding in findings],
        "zoo": [vars(check) for check in checks],
    }
    return json.dumps(content | ({"allowed": names} if names else {}), indent=2)


def _to_text(
    findings: "list[Finding]", checks: "list[Check]", names: list[str], digest: str
) -> str:
    from grata_monai.bundle.verify import OUTPUT_FOLDERS  # noqa: PLC0415

    lines = [*names, *map(str, findings), *(f"zoo: {check}" for check in checks)]
    lines.append(f"{len(findings)} finding(s); SHA-256 of the manifest: {digest or 'none'}")
    lines.append(f"not looked at: {', '.join(f'{name}/' for name in OUTPUT_FOLDERS)}")
    return "\n".join(lines)
