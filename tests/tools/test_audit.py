"""Advisories that nobody has judged are named; those that do not apply say why."""

import json
import re

import pytest

from grata_monai.core.errors import DatasetError
from tools.audit import find_open, main, make_vex
from tools.offline import write_hashed

FOUND = {"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2"]}
PACKAGES = [{"name": "alpha", "version": "1", "vulns": [FOUND]}, {"name": "beta", "version": "3"}]
REPORT = {"dependencies": PACKAGES}
JUDGED = {"CVE-1": ("code_not_reachable", "We call nothing of it.")}


def test_an_open_advisory_is_named_with_its_remedy():
    assert find_open(REPORT, {}) == ["alpha 1: PYSEC-1, mended in 2"]
    assert make_vex(REPORT, {})["vulnerabilities"][0]["analysis"] == {"state": "in_triage"}


def test_what_could_not_be_audited_does_not_pass():
    report = {"dependencies": [{"name": "alpha", "skip_reason": "not found"}]}
    assert find_open(report, {}) == ["alpha: not audited, not found"]


@pytest.mark.parametrize(
    ("packages", "status", "text"),
    [
        ([{"name": "alpha", "skip_reason": "no way"}], 2, "could judge no package.*: no way"),
        (PACKAGES, 1, "alpha 1: PYSEC-1"),
        (PACKAGES[1:], 0, "no open advisory among 1 packages"),
    ],
)
def test_nothing_is_written_where_no_package_could_be_audited(
    packages, status, text, tmp_path, monkeypatch, capsys
):
    program, out = tmp_path / "pip-audit", tmp_path / "dist" / "vex.cdx.json"
    program.write_text(f"#!/bin/sh\necho '{json.dumps({'dependencies': packages})}'\n")
    program.chmod(0o755)
    monkeypatch.setattr("sys.argv", ["audit", str(program), "--out", str(out)])
    assert main() == status
    assert re.search(text, capsys.readouterr().out)
    assert out.exists() == (status != 2)


def test_one_that_does_not_apply_says_why():
    assert find_open(REPORT, JUDGED) == []
    (found,) = make_vex(REPORT, JUDGED)["vulnerabilities"]
    assert found["analysis"] == {
        "state": "not_affected",
        "justification": "code_not_reachable",
        "detail": "We call nothing of it.",
    }
    assert found["affects"] == [{"ref": "pkg:pypi/alpha@1"}]


def test_wheels_are_locked_by_their_hashes(tmp_path):
    (tmp_path / "Al_pha-1.0-py3-none-any.whl").write_bytes(b"a")
    assert write_hashed(tmp_path, tmp_path / "out.txt") == 1
    sha256 = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
    assert (tmp_path / "out.txt").read_text() == f"al-pha==1.0 --hash=sha256:{sha256}\n"
    (tmp_path / "alpha-2.0.tar.gz").write_bytes(b"a")
    (tmp_path / "alpha-1.0.tar.gz").write_bytes(b"a")
    with pytest.raises(DatasetError, match="each package in one version"):
        write_hashed(tmp_path, tmp_path / "out.txt")
