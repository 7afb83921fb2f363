import json
import re
import shlex
import textwrap
from pathlib import Path
from typing import NamedTuple

import pytest

from grata_monai.cli import build_parser

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = [
    path
    for pattern in ("*.md", "docs/**/*.md", "bundle/docs/*.md")
    for path in sorted(REPOSITORY.glob(pattern))
]
SHELLS = ("bash", "console", "sh", "shell")
FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<body>.*?)^ *```", re.M | re.S)


class Block(NamedTuple):
    """One fenced block: where its first line stands in the page, and what it says."""

    line: int
    text: str


def blocks(page: Path, *languages: str) -> list[Block]:
    """The fenced blocks of a page in any of these languages, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(text[: match.start("body")].count("\n") + 1, textwrap.dedent(match["body"]))
        for match in FENCE.finditer(text)
        if match["language"] in languages
    ]


def commands(page: Path) -> list[list[str]]:
    """Every command line of the page's shell blocks, in words, without prompts and comments."""
    found = []
    for block in blocks(page, *SHELLS):
        for line in block.text.replace("\\\n", " ").splitlines():
            for command in re.split(r"&&|;|\|", line.strip().removeprefix("$ ")):
                words = shlex.split(command, comments=True)
                found.extend([words] if words else [])
    return found


def pages_with(*languages: str) -> list[object]:
    """Parameters: each page that has at least one block in these languages."""
    return [
        pytest.param(page, id=str(page.relative_to(REPOSITORY)))
        for page in PAGES
        if blocks(page, *languages)
    ]


@pytest.mark.parametrize("page", pages_with("python"))
def test_python_examples_run(page, tmp_path, monkeypatch):
    # A reader works in the repository's root; what the example writes must not stay there.
    (tmp_path / "bundle").symlink_to(REPOSITORY / "bundle")
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "example"}
    for block in blocks(page, "python"):
        # Empty lines in front make a traceback name the line of the page.
        source = "\n" * (block.line - 1) + block.text
        exec(compile(source, str(page), "exec"), namespace)


@pytest.mark.parametrize("page", pages_with("json"))
def test_json_examples_parse(page):
    for block in blocks(page, "json"):
        json.loads(block.text)


@pytest.mark.parametrize("page", pages_with(*SHELLS))
def test_commands_that_are_shown_exist(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    targets = set(re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(), re.M))
    parser = build_parser()
    for words in commands(page):
        if words[0] == "make":
            asked = {word for word in words[1:] if "=" not in word and not word.startswith("-")}
            assert asked <= targets
        is_script, is_module = words[0] == "grata-monai", words[1:3] == ["-m", "grata_monai"]
        if (is_script or is_module) and not {"--help", "--version"} & set(words):
            if "--network" in words:  # a reader's own, which must be there
                Path(words[words.index("--network") + 1]).mkdir(exist_ok=True)
            # exits, and so fails, on what it does not know
            parser.parse_args(words[1 if is_script else 3 :])
