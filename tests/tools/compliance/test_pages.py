import ast
import json
import re

import pytest

from grata_monai.adapt.recipe import resolve_recipe
from grata_monai.core.errors import DatasetError
from tools.compliance.pages import PAGES, Part, find_outdated, replace_part, write_pages
from tools.compliance.scores import SCORES_FROM, SCORES_IN

HAND_WRITTEN = (
    "docs/explanation/locked-or-adaptive.md",
    "docs/how-to/instructions-for-use.md",
    "docs/reference/dicom-conformance.md",
    "docs/reference/compliance.md",
    "docs/reference/soup.md",
)
MARKS = "<!-- generated: a -->\nold\n<!-- end of a -->\n"
TABLE = "| centre | cases | source |\n|---|---|---|\n| north | 3 | .9 |\n"


@pytest.fixture
def root(tmp_path):
    """A repository of one page with a part, and of the pages with the table of scores."""
    for page in (SCORES_FROM, *SCORES_IN):
        (tmp_path / page).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / page).write_text(f"before\n\n{TABLE}\nafter\n")
    (tmp_path / "page.md").write_text(f"head\n{MARKS}tail\n")
    return tmp_path


PART = Part("page.md", "a", lambda root: f"made for {root.name}")


@pytest.mark.slow
def test_every_committed_page_is_what_the_command_gives(repository):
    assert list(find_outdated(repository)) == []


def test_a_part_that_differs_is_named_and_written_and_then_agrees(root):
    outdated = find_outdated(root, [PART])
    assert list(outdated) == ["page.md"]
    write_pages(root, outdated)
    expected = f"head\n<!-- generated: a -->\n\nmade for {root.name}\n\n<!-- end of a -->\ntail\n"
    assert (root / "page.md").read_text() == expected
    assert find_outdated(root, [PART]) == {}


def test_a_changed_score_is_copied_to_every_page_and_nothing_else_changes(root):
    changed = TABLE.replace(".9", ".8")
    (root / SCORES_FROM).write_text(f"other words\n\n{changed}\n")
    outdated = find_outdated(root, [])
    assert sorted(outdated) == sorted(SCORES_IN)
    assert set(outdated.values()) == {f"before\n\n{changed}\nafter\n"}


@pytest.mark.parametrize(
    "text",
    ["", "<!-- generated: a -->", MARKS + MARKS, "<!-- end of a -->\n<!-- generated: a -->\n"],
)
def test_marks_must_be_there_once_and_in_order(text):
    with pytest.raises(DatasetError, match=r"page must have the marks .* once each, in this order"):
        replace_part(text, "page", "a", "x")


def test_a_missing_page_or_table_is_refused(root):
    with pytest.raises(DatasetError, match=r"none\.md must be readable.*--root"):
        find_outdated(root, [Part("none.md", "a", PART.render)])
    (root / SCORES_IN[0]).write_text("no table\n")
    with pytest.raises(DatasetError, match=f"{SCORES_IN[0]} must have the table of scores"):
        find_outdated(root, [])


def test_every_page_has_the_scores_of_the_page_that_keeps_them(repository):
    def rows(page):
        lines = (repository / page).read_text(encoding="utf-8").splitlines()
        return [line for line in lines if re.match(r"\| (held-back|HK|BIDMC)[^|]*\| \d+ \|", line)]

    kept = rows(SCORES_FROM)
    assert len(kept) == 3
    for page in SCORES_IN:
        assert rows(page) == kept


@pytest.mark.parametrize("page", sorted({part.page for part in PAGES}))
def test_every_pair_of_marks_belongs_to_a_part(page, repository):
    marked = re.findall(r"<!-- generated: ([\w-]+) -->", (repository / page).read_text("utf-8"))
    assert sorted(marked) == sorted(part.name for part in PAGES if part.page == page)


@pytest.mark.parametrize("page", HAND_WRITTEN)
def test_every_link_of_a_page_leads_to_a_file(page, repository):
    text = (repository / page).read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    assert links
    assert [link for link in links if not (repository / page).parent.joinpath(link).exists()] == []


def test_the_tests_that_the_page_on_locked_algorithms_names_exist(repository):
    text = (repository / HAND_WRITTEN[0]).read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)
    assert len(named) >= 10
    for file, test in named:
        tree = ast.parse((repository / file).read_text(encoding="utf-8"))
        assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_the_figures_of_the_instructions_still_stand_in_what_was_measured(repository):
    # Risks are told in words, by hand. Where these words change, read the instructions again.
    pages = (SCORES_FROM, "docs/explanation/how-settings-were-chosen.md")
    texts = [(repository / page).read_text(encoding="utf-8") for page in pages]
    measured = " ".join(" ".join(texts).split())
    for words in (
        "two of thirty",
        "the light is red in all five cases",
        "separates useless masks from useful ones without a mistake",
        "| `grata-clinical`, as shipped | .909 | .776 | 15 %",
        "One mask is red and better",
    ):
        assert words in measured


def test_the_bundle_is_episodic_in_every_configuration(repository):
    paths = list((repository / "bundle" / "configs").glob("*.json"))
    assert len(paths) > 5
    for path in paths:
        text = path.read_text(encoding="utf-8")
        assert "memory" not in text.lower()
        assert "online" not in text.lower()
        recipe = json.loads(text).get("recipe")
        assert recipe is None or resolve_recipe(recipe).memory == "episodic"
