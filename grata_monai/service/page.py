"""Fill the service's page; its looks are those of the reports.

The room `report` is not imported: it brings torch, which the listening process need not have.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from grata_monai.service.status import Snapshot
from grata_monai.write import RESEARCH_ONLY

__all__ = ["render_page"]


def render_page(now: Snapshot, reports: Mapping[str, int] | None = None) -> str:
    """Make the page.

    Args:
        now: What to show; every value is escaped.
        reports: How many each series has, by its key; None where the page leads to none.

    Returns:
        HTML, which loads nothing from elsewhere.
    """
    return _environment().get_template("service.html.j2").render(now=now, reports=reports)


@cache
def _environment() -> Environment:
    looks = Path(__file__).parents[1] / "report" / "assets"
    environment = Environment(
        loader=FileSystemLoader([Path(__file__).parent / "assets", looks]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        inline=lambda name: Markup((looks / name).read_text(encoding="utf-8")),  # our own style
        research_only=RESEARCH_ONLY.capitalize(),
    )
    environment.filters["number"] = _number
    return environment


def _number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
