"""Pages with generated parts: which, between which marks, and whether they are up to date.

A part stands between two comments, which a reader does not see::

    <!-- generated: soup -->
    ...
    <!-- end of soup -->
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from grata_monai.core.errors import DatasetError
from grata_monai.core.files import atomic_path
from tools.compliance.scores import SCORES_IN, read_page, read_table, replace_table

__all__ = ["PAGES", "Part", "find_outdated", "replace_part", "write_pages"]

Render = Callable[[Path], str]


@dataclass(frozen=True)
class Part:
    """One generated part.

    Attributes:
        page: Path below the repository's root.
        name: Between its marks.
        render: Makes it, from the repository's root.
    """

    page: str
    name: str
    render: Render


def _facts(root: Path) -> str:
    from tools.compliance.card import render_facts  # noqa: PLC0415  # needs MONAI

    return render_facts(root)


def _light(root: Path) -> str:
    from tools.compliance.card import render_light  # noqa: PLC0415  # needs MONAI

    return render_light(root)


def _soup(root: Path) -> str:
    from tools.compliance.soup import render_soup  # noqa: PLC0415

    return render_soup(root)


def _methods(root: Path) -> str:
    from tools.compliance.methods import render_methods  # noqa: PLC0415  # needs MONAI

    return render_methods(root)


def _dicom(name: str) -> Render:
    def render(root: Path) -> str:
        from tools.compliance import dicom_tables  # noqa: PLC0415  # needs the dicom extra

        return str(getattr(dicom_tables, f"render_{name}")(root))

    return render


CONFORMANCE = "docs/reference/dicom-conformance.md"
PAGES: Sequence[Part] = (
    Part("bundle/docs/README.md", "facts", _facts),
    Part("docs/how-to/instructions-for-use.md", "light", _light),
    Part("docs/reference/soup.md", "soup", _soup),
    Part("docs/reference/methods.md", "methods", _methods),
    *(
        Part(CONFORMANCE, name, _dicom(name))
        for name in ("read", "syntaxes", "objects", "taken", "network")
    ),
)
"""Every generated part; the table of scores besides is copied into `scores.SCORES_IN`."""


def find_outdated(root: Path, parts: Sequence[Part] = PAGES) -> dict[str, str]:
    """Make every generated part anew, and compare.

    Args:
        root: Of the repository.
        parts: What to look at.

    Returns:
        Page to the text that it should have; only pages that differ.

    Raises:
        DatasetError: If a page or a mark is missing, or the environment is not the locked one.
        GrataError: If what a part is made from cannot be read.
    """
    pages = {part.page: read_page(root, part.page) for part in parts}
    texts = dict(pages)
    for part in parts:
        texts[part.page] = replace_part(texts[part.page], part.page, part.name, part.render(root))
    table = read_table(root)
    for page in SCORES_IN:
        pages.setdefault(page, read_page(root, page))
        texts[page] = replace_table(texts.get(page, pages[page]), page, table)
    return {page: text for page, text in texts.items() if text != pages[page]}


def write_pages(root: Path, texts: dict[str, str]) -> None:
    """Write pages, each whole or not at all.

    Raises:
        OutputError: If one cannot be written.
    """
    for page, text in texts.items():
        with atomic_path(root / page) as path:
            path.write_text(text, encoding="utf-8")


def replace_part(text: str, page: str, name: str, content: str) -> str:
    r"""Put content between the marks of a part.

    Args:
        text: Of the page.
        page: Its name, for errors.
        name: Of the part.
        content: Markdown.

    Returns:
        The page with the content.

    Raises:
        DatasetError: If the marks are not there exactly once, in order.

    >>> replace_part("<!-- generated: a -->\n<!-- end of a -->", "page", "a", "| x |").split("\n")
    ['<!-- generated: a -->', '', '| x |', '', '<!-- end of a -->']
    """
    begin, end = f"<!-- generated: {name} -->", f"<!-- end of {name} -->"
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    if text.count(begin) != 1 or text.count(end) != 1 or end in before:
        raise DatasetError(
            f"{page} must have the marks {begin} and {end} once each, in this order. "
            "Put them where the part shall stand."
        )
    return f"{before}{begin}\n\n{content}\n\n{end}{after}"
