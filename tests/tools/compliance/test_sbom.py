import hashlib
import json
import re
import shutil
import sys

import pytest

from grata_monai.core.errors import BundleError
from tools.compliance import sbom
from tools.compliance.sbom import make_sbom, write_sbom

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def content(repository) -> dict:
    return make_sbom(repository, {})


@pytest.fixture(scope="module")
def model(content) -> dict:
    (found,) = (c for c in content["components"] if c["type"] == "machine-learning-model")
    return found


def normalise(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_it_holds_every_locked_version(content, repository):
    lines = (repository / "constraints.txt").read_text().splitlines()
    locked = {line for line in lines if line and not line.startswith("#")}
    held = {
        f"{normalise(c['name'])}=={c['version'].split('+')[0]}"
        for c in content["components"]
        if c.get("purl", "").startswith("pkg:pypi/")
    }
    assert {f"{normalise(n)}=={v}" for n, v in (line.split("==") for line in locked)} <= held


def test_it_is_cyclonedx_1_6_about_this_program(content):
    assert (content["bomFormat"], content["specVersion"]) == ("CycloneDX", "1.6")
    about = content["metadata"]
    assert about["component"]["name"] == "grata_monai"
    assert about["authors"] == [{"name": "the developers of grata_monai"}]
    assert [tool["name"] for tool in about["tools"]["components"]] == ["cyclonedx-python-lib"]


@pytest.mark.parametrize(
    ("name", "scope"), [("torch", "required"), ("pydicom", "optional"), ("pytest", "excluded")]
)
def test_the_scope_says_whether_a_package_takes_part(name, scope, content):
    (found,) = (c for c in content["components"] if c["name"] == name)
    assert found["scope"] == scope


def test_what_needs_what_is_in_it(content):
    needs = {d["ref"].split("==")[0]: d.get("dependsOn", []) for d in content["dependencies"]}
    assert any(ref.startswith("numpy==") for ref in needs["nibabel"])
    assert any(ref.startswith("torch==") for ref in needs["grata-monai"])
    assert not any(ref.startswith("sympy==") for ref in needs["grata-monai"])  # torch needs it
    assert "bundle" in needs["grata-monai"]


def test_every_reference_is_unique_and_leads_somewhere(content):
    found = [content["metadata"]["component"], *content["metadata"]["tools"]["components"]]
    for component in content["components"]:
        found += [component, *component.get("components", ())]
    refs = [each["bom-ref"] for each in found]
    assert len(refs) == len(set(refs))
    for each in content["dependencies"]:
        assert {each["ref"], *each.get("dependsOn", ())} <= set(refs)


def test_the_model_has_the_hashes_of_its_weights_files_and_manifest(model, repository):
    bundle = repository / "bundle"
    digests = {
        path.relative_to(bundle).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in ("configs", "docs", "models")
        for path in (bundle / folder).iterdir()
    }
    for name in ("LICENSE", "manifest.sha256"):
        digests[name] = hashlib.sha256((bundle / name).read_bytes()).hexdigest()
    assert {c["name"]: c["hashes"][0]["content"] for c in model["components"]} == digests
    assert model["hashes"][0] == {"alg": "SHA-256", "content": digests["models/model.pt"]}
    properties = {p["name"]: p["value"] for p in model["properties"]}
    assert properties["grata_monai:manifest_sha256"] == digests["manifest.sha256"]


def test_the_model_has_version_licence_data_and_card(model, repository):
    about = json.loads((repository / "bundle" / "configs" / "metadata.json").read_text())
    assert (model["name"], model["version"]) == (about["name"], about["version"])
    assert model["licenses"] == [{"license": {"name": about["copyright"]}}]
    card = model["modelCard"]
    assert card["modelParameters"]["datasets"][0]["name"] == about["data_source"]
    assert any("no label either" in text for text in card["considerations"]["technicalLimitations"])
    metrics = card["quantitativeAnalysis"]["performanceMetrics"]
    measured = (repository / "docs" / "explanation" / "measured.md").read_text()
    row = next(line for line in measured.splitlines() if line.startswith("| BIDMC"))
    (value,) = (
        m["value"]
        for m in metrics
        if m["type"] == "mean Dice, clinical as shipped" and m["slice"].startswith("BIDMC")
    )
    assert row.split("|")[-2].strip().startswith(f"**{value}**")


def test_nothing_in_it_names_the_machine(content, repository):
    text = json.dumps(content)
    for place in (str(repository), sys.prefix, "/home/", "/root/", "/tmp/", "file:"):
        assert place not in text


def test_the_same_environment_gives_the_same_bytes_and_no_time(content, repository, tmp_path):
    assert "timestamp" not in content["metadata"]
    write_sbom(repository, tmp_path / "a" / "one.json")
    write_sbom(repository, tmp_path / "a" / "two.json")
    one, two = ((tmp_path / "a" / name).read_bytes() for name in ("one.json", "two.json"))
    assert one == two
    assert content["serialNumber"].encode() in one


def test_the_time_is_the_one_that_is_given(content, repository):
    dated = make_sbom(repository, {"SOURCE_DATE_EPOCH": "86400"})
    assert dated["metadata"].pop("timestamp") == "1970-01-02T00:00:00Z"
    assert dated == content
    with pytest.raises(ValueError, match="whole number of seconds, got 'noon'"):
        make_sbom(repository, {"SOURCE_DATE_EPOCH": "noon"})


def test_what_breaks_the_schema_is_refused(repository, monkeypatch):
    monkeypatch.setattr(sbom, "make_model_card", lambda _: {"colour": "red"})
    with pytest.raises(ValueError, match=r"must obey CycloneDX's schema.*'colour' was unexpected"):
        make_sbom(repository, {})


def test_a_changed_bundle_has_no_bill_of_materials(repository, tmp_path):
    shutil.copytree(repository / "bundle", tmp_path / "bundle")
    (tmp_path / "pyproject.toml").symlink_to(repository / "pyproject.toml")
    (tmp_path / "bundle" / "LICENSE").write_text("another")
    with pytest.raises(BundleError, match="LICENSE"):
        make_sbom(tmp_path, {})
