"""The zoo's own checks run offline on what passed the rules, and say what they did."""

import json
import sys

import pytest

from grata_monai.bundle.lint.zoo import run_zoo_checks

NAMES = [
    "structure",
    "version in changelog",
    "metadata schema",
    "verify_net_in_out",
    "ckpt_export",
    "check_properties",
]


@pytest.fixture(autouse=True)
def process_state(monkeypatch):
    """Take back what MONAI's workflow and the bundle change for the rest of the process."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)


def outcomes(checks):
    return {check.name: check.outcome for check in checks}


def test_a_small_bundle_passes_and_stays_as_it_was(make_bundle):
    bundle = make_bundle()
    before = sorted(bundle.rglob("*"))
    checks = run_zoo_checks(bundle)
    assert [check.name for check in checks] == NAMES
    skipped = {"metadata schema": "skipped"}
    assert outcomes(checks) == {name: "passed" for name in NAMES} | skipped
    assert "--schema" in checks[2].reason
    assert sorted(bundle.rglob("*")) == before


def test_a_schema_is_used_where_there_is_one(make_bundle, tmp_path):
    schema = tmp_path / "schema.json"
    bundle = make_bundle()
    schema.write_text(json.dumps({"required": ["version"]}))
    assert outcomes(run_zoo_checks(bundle, schema=schema))["metadata schema"] == "passed"
    schema.write_text(json.dumps({"required": ["doi"]}))
    checks = run_zoo_checks(bundle, schema=schema)
    assert outcomes(checks)["metadata schema"] == "failed"
    assert "'doi' is a required property" in checks[2].reason


def test_every_failure_says_why_and_the_others_go_on(make_bundle):
    bundle = make_bundle(inferer=None, network_def={"_target_": "SimpleInferer"})
    path = bundle / "configs" / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": "9"}))
    (bundle / "LICENSE").unlink()
    checks = run_zoo_checks(bundle)
    assert [check.name for check in checks] == NAMES
    assert set(outcomes(checks).values()) == {"failed", "skipped"}
    assert all(check.reason for check in checks)
    assert "missing: LICENSE" in str(checks[0])


@pytest.mark.slow
def test_our_bundle_passes_what_can_be_checked_offline(repository):
    checks = run_zoo_checks(repository / "bundle")
    assert [str(check) for check in checks if check.outcome == "failed"] == []
    assert [check.name for check in checks if check.outcome == "skipped"] == ["metadata schema"]
    assert not any((repository / "bundle" / "models").glob("*.ts"))
