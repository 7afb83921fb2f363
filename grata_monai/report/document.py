"""Turn a report in Markdown, of a comparison for instance, into a page with the looks of all."""

import base64
import re
from pathlib import Path

from markdown_it import MarkdownIt
from markupsafe import Markup

from grata_monai.core.files import atomic_path
from grata_monai.report.templates import fill

__all__ = ["write_document"]

_TABLE = '<div class="scroll" tabindex="0" role="region" aria-label="Table"><table>'


def write_document(text: Path) -> Path:
    """Write a page beside a Markdown file, with the pictures that it shows in it.

    Args:
        text: The file; its first line is the title. HTML in it is shown, never taken as such.

    Returns:
        The page, of the same name with ``.html``.

    Raises:
        OutputError: If it cannot be written.
    """
    source = text.read_text(encoding="utf-8")
    title = source.partition("\n")[0].removeprefix("# ")
    html = MarkdownIt("commonmark", {"html": False}).enable("table").render(source)
    html = html.replace("<table>", _TABLE).replace("</table>", "</table></div>")
    html = re.sub(r'(?<=<img src=")([\w.-]+\.png)(?=")', lambda m: _embed(text.parent / m[1]), html)
    page = text.with_suffix(".html")
    with atomic_path(page) as path:
        # safe: Markdown's own tags, everything else escaped by its renderer
        path.write_text(fill("document.html.j2", title=title, body=Markup(html)), encoding="utf-8")
    return page


def _embed(picture: Path) -> str:
    if not picture.is_file():
        return picture.name
    return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"
