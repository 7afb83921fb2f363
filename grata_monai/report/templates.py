"""Fill the templates of pages; what is inlined into them comes from files beside them."""

import base64
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from grata_monai.write import RESEARCH_ONLY

__all__ = ["fill", "read_asset"]

_ASSETS = "assets"


def fill(template: str, **values: Any) -> str:
    """Fill a template; every value is escaped.

    Args:
        template: Its file's name.
        **values: What it asks for.

    Returns:
        HTML.
    """
    return _environment().get_template(template).render(**values)


def read_asset(name: str) -> bytes:
    """Read a file that comes with the package."""
    return files(__package__).joinpath(_ASSETS, name).read_bytes()


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("grata_monai.report", _ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        inline=_inline, encoded=_encoded, research_only=RESEARCH_ONLY.capitalize()
    )
    environment.filters.update(number=_number, signed=_signed)
    return environment


@cache
def _inline(name: str) -> Markup:
    """Our own style or script, as it is."""
    return Markup(read_asset(name).decode())  # of this package, not of a case


@cache
def _encoded(name: str) -> str:
    return base64.b64encode(read_asset(name)).decode()


def _number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _signed(value: float | None, digits: int = 1) -> str:
    """Write a change with its sign; what rounds to zero has none."""
    if value is None:
        return "–"
    text = f"{value:+.{digits}f}"
    return f"{0:.{digits}f}" if float(text) == 0 else text.replace("-", "−")
