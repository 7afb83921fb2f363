"""The command reports every finding, also as JSON, and its exit status tells."""

import json
import subprocess
import sys

import pytest

from grata_monai.bundle.verify import manifest_digest
from grata_monai.cli import main


@pytest.fixture(autouse=True)
def process_state(monkeypatch):
    """Take back what MONAI's workflow and the bundle change for the rest of the process."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)


def test_a_clean_bundle_ends_with_0_and_the_name_of_its_state(make_bundle, capsys):
    bundle = make_bundle()
    assert main(["lint", str(bundle)]) == 0
    printed = capsys.readouterr().out
    assert f"0 finding(s); SHA-256 of the manifest: {manifest_digest(bundle)}" in printed
    assert "not looked at: eval/, training/" in printed


def test_a_finding_ends_with_1_and_names_file_id_and_remedy(make_bundle, capsys):
    bundle = make_bundle(x={"_target_": "os.system"})
    assert main(["lint", str(bundle)]) == 1
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("configs/inference.json: x#_target_: [target] The target 'os.system'")
    assert "--allow" in first


def test_json_is_for_machines(make_bundle, capsys):
    bundle = make_bundle(x={"_target_": "os.system"})
    assert main(["lint", str(bundle), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["manifest_sha256"] == manifest_digest(bundle)
    (finding,) = report["findings"]
    assert set(finding) == {"file", "id", "rule", "problem", "remedy"}
    assert report["zoo"] == []


@pytest.mark.slow
def test_json_stays_json_while_the_zoo_talks(make_bundle):
    # in a process of its own: MONAI's loggers write to the standard output that they first saw
    done = subprocess.run(
        [sys.executable, "-m", "grata_monai", "lint", str(make_bundle()), "--json", "--zoo"],
        capture_output=True,
        text=True,
        check=True,
    )
    report = json.loads(done.stdout)
    assert {check["outcome"] for check in report["zoo"]} == {"passed", "skipped"}


def test_a_bundle_with_a_finding_is_never_built(make_bundle, capsys, tmp_path):
    bundle = make_bundle(initialize=[f"$open('{tmp_path.name}', 'w')"])
    assert main(["lint", str(bundle), "--zoo"]) == 1
    assert "zoo: skipped: all of the zoo" in capsys.readouterr().out


def test_a_failed_check_of_the_zoo_ends_with_1(make_bundle, capsys):
    bundle = make_bundle(network_def={"_target_": "SimpleInferer"})
    assert main(["lint", str(bundle), "--zoo"]) == 1
    assert "zoo: failed: verify_net_in_out" in capsys.readouterr().out


def test_the_manifest_is_written_on_request_alone(make_bundle, capsys):
    bundle = make_bundle()
    (bundle / "docs" / "more.md").write_text("more")
    assert main(["lint", str(bundle)]) == 1
    assert main(["lint", "--write-manifest", str(bundle)]) == 0
    assert "docs/more.md" in (bundle / "manifest.sha256").read_text()


def test_the_allow_list_can_be_extended_and_printed(make_bundle, capsys):
    bundle = make_bundle(x={"_target_": "my_package.A"}, y={"_target_": "my_package.B"})
    more = ["--allow", "my_package.A", "--allow", "my_package.B"]
    assert main(["lint", str(bundle), *more, "--list-allowed"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert {"my_package.A", "my_package.B", "SimpleInferer", ".run"} <= set(printed)
    assert main(["lint", str(bundle), *more, "--list-allowed", "--json"]) == 0
    assert "my_package.A" in json.loads(capsys.readouterr().out)["allowed"]


def test_what_is_no_bundle_ends_with_2(tmp_path, capsys):
    assert main(["lint", str(tmp_path / "gone")]) == 2
    assert "bundle must be a folder" in capsys.readouterr().err


def test_a_schema_that_is_not_there_ends_with_2(make_bundle, capsys):
    assert main(["lint", str(make_bundle()), "--zoo", "--schema", "gone.json"]) == 2
    assert "schema must be a file, 'gone.json' is none" in capsys.readouterr().err
