"""Outlines of several labels have colours of their own, those of their DICOM segments."""

from grata_monai.write.dicom.coded_concepts import name_segments
from grata_monai.write.pictures.colours import PALETTE, choose_colours, to_hex


def test_one_label_has_no_colour_of_its_own():
    assert choose_colours([]) == choose_colours([3]) == {}


def test_the_first_seven_labels_differ_and_then_colours_come_again():
    colours = choose_colours(range(1, 10))
    assert len({colours[number] for number in range(1, 8)}) == 7
    assert colours[8] == colours[1]


def test_a_label_has_the_colour_of_its_dicom_segment():
    segments = name_segments({1: "liver", 2: "spleen", 3: "left kidney"})
    colours = choose_colours(segment.number for segment in segments)
    assert [segment.colour for segment in segments] == [colours[number] for number in (1, 2, 3)]


def test_a_colour_is_written_as_pages_do():
    assert to_hex(PALETTE[0]) == "#E69F00"
