"""Hold the lock against known advisories, and write as VEX which of them do not concern us.

``python -m tools.audit PIP_AUDIT --out FILE`` runs pip-audit over ``constraints.txt``, and
``make audit`` installs that. Advisories that do not apply stand in `NOT_AFFECTED`, each with its
reason; any other one ends with exit status 1.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["NOT_AFFECTED", "find_open", "make_vex"]

ROOT = Path(__file__).resolve().parents[1]
NOT_AFFECTED: Mapping[str, tuple[str, str]] = {}
"""Name of an advisory to a justification of CycloneDX, such as ``code_not_reachable``, and why."""

NOTHING = (
    "error: pip-audit must reach https://pypi.org, and could judge no package; nothing was "
    "written. Of the first it says: {reason}"
)


def find_open(report: Mapping[str, Any], known: Mapping[str, tuple[str, str]]) -> list[str]:
    """List what pip-audit found and nobody has judged.

    Args:
        report: Of ``pip-audit --format json``.
        known: As `NOT_AFFECTED`.

    Returns:
        A line per advisory, and per package that pip-audit could not judge.
    """
    skipped = [
        f"{package['name']}: not audited, {package['skip_reason']}"
        for package in report["dependencies"]
        if "skip_reason" in package
    ]
    return skipped + [
        f"{package['name']} {package['version']}: {found['id']}, mended in "
        f"{', '.join(found['fix_versions']) or 'no version'}"
        for package in report["dependencies"]
        for found in package.get("vulns", ())
        if not {found["id"], *found.get("aliases", ())} & known.keys()
    ]


def make_vex(report: Mapping[str, Any], known: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """Make a CycloneDX VEX of what pip-audit found.

    Args:
        report: Of ``pip-audit --format json``.
        known: As `NOT_AFFECTED`.

    Returns:
        JSON: each advisory as ``not_affected`` with its justification, or ``in_triage``.
    """
    vulnerabilities = []
    for package in report["dependencies"]:
        for found in package.get("vulns", ()):
            names = [found["id"], *found.get("aliases", ())]
            judged = next((known[name] for name in names if name in known), None)
            analysis = {"state": "in_triage"}
            if judged is not None:
                justification, why = judged
                analysis = {"state": "not_affected", "justification": justification, "detail": why}
            purl = f"pkg:pypi/{package['name']}@{package['version']}"
            vulnerabilities.append(
                {"id": found["id"], "analysis": analysis, "affects": [{"ref": purl}]}
            )
    head = {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1}
    return {**head, "vulnerabilities": vulnerabilities}


def main() -> int:
    """Audit; the exit status is 1 if an advisory is open, 2 if nothing could be audited."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program", type=Path, metavar="PIP_AUDIT", help="the program")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="VEX to write")
    asked = parser.parse_args()
    command = [asked.program, "--requirement", ROOT / "constraints.txt", "--no-deps"]
    options = ["--disable-pip", "--format", "json", "--progress-spinner", "off"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    if not done.stdout.strip():
        print(f"error: pip-audit must give a report, it says: {done.stderr.strip()[-500:]}")
        return 2
    report = json.loads(done.stdout)
    if all("skip_reason" in package for package in report["dependencies"]):
        print(NOTHING.format(reason=report["dependencies"][0]["skip_reason"]))
        return 2
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps(make_vex(report, NOT_AFFECTED), indent=1), encoding="utf-8")
    found = find_open(report, NOT_AFFECTED)
    print("\n".join(found) or f"no open advisory among {len(report['dependencies'])} packages")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
