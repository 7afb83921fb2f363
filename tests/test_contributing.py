"""CONTRIBUTING.md is followed literally: one file and one line for a method, and for a score."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

BLOCK = re.compile(r"```python\n# (?P<path>grata_monai/\S+\.py)\n(?P<code>.*?)```", re.DOTALL)
LINE = re.compile(r"The line: `(?P<line>[^`]+)`")
LISTS = {
    "methods": ("methods/registry.py", "_CLASSES = ("),
    "adapt": ("adapt/scores/__init__.py", "_MODULES = ("),
}

USE = """
import torch
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import UNet
from grata_monai import GraTaInferer

torch.manual_seed(0)
network = UNet(3, 1, 2, (4, 8), (2,), norm="batch").eval()
recipe = {"base": "clinical", "mirror_margin": -1.0, "source_below": 0.0}
inferer = GraTaInferer(SlidingWindowInferer((16, 16, 8)), recipe, method="plain_entropy")
print(inferer(torch.rand(1, 1, 16, 16, 8), network).meta["grata"])
"""


def test_a_method_and_a_score_are_one_file_and_one_line_each(repository, tmp_path):
    shutil.copytree(
        repository / "grata_monai",
        tmp_path / "grata_monai",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    text = (repository / "CONTRIBUTING.md").read_text(encoding="utf-8")
    blocks, lines = list(BLOCK.finditer(text)), LINE.findall(text)
    assert len(blocks) == len(lines) == 2
    for block, line in zip(blocks, lines, strict=True):
        (tmp_path / block["path"]).write_text(block["code"], encoding="utf-8")
        name, start = LISTS[block["path"].split("/")[1]]
        place = tmp_path / "grata_monai" / name
        source = place.read_text(encoding="utf-8")
        assert source.count(start) == 1
        place.write_text(source.replace(start, f"{start}\n    {line}"), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", USE],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["method"] == {"name": "plain_entropy", "settings": {"rate": 0.01}}
    assert record["steps"]
    assert all(step["loss"] > 0 for step in record["steps"])
    scores = {score["name"]: score for score in record["verdict"]["scores"]}
    assert 0.5 <= scores["certainty"]["value"] <= 1
    assert scores["certainty"]["threshold"] is None
    assert set(scores) > {"certainty", "consistency"}
