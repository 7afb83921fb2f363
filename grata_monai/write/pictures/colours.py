"""Give every label the colour of its outline: the same in pictures, pages and DICOM objects."""

from collections.abc import Iterable

__all__ = ["FINAL_COLOUR", "PALETTE", "SOURCE_COLOUR", "Colour", "choose_colours", "to_hex"]

Colour = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""

PALETTE: tuple[Colour, ...] = (  # distinguishable with any colour vision: Okabe and Ito, 2008
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
SOURCE_COLOUR, FINAL_COLOUR = PALETTE[:2]
"""Of both masks where there is one label only; their lines differ in any case, dashed and solid."""


def choose_colours(labels: Iterable[int]) -> dict[int, Colour]:
    """Choose the colours of outlines, where there are several labels.

    Args:
        labels: Numbers of all labels, from 1.

    Returns:
        A colour for each, of which the first seven differ; nothing for less than two labels, where
        colours tell the source's mask from the final one instead.
    """
    numbers = sorted(labels)
    if len(numbers) < 2:
        return {}
    return {number: PALETTE[(number - 1) % len(PALETTE)] for number in numbers}


def to_hex(colour: Colour) -> str:
    """Write a colour as pages and matplotlib do, ``#E69F00``."""
    return "#{:02X}{:02X}{:02X}".format(*colour)
