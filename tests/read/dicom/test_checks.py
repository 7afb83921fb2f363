from dataclasses import replace

import numpy as np
import pytest

from grata_monai.core.errors import DicomError
from grata_monai.read.dicom.checks import check_instance, find_kind
from grata_monai.read.dicom.headers import Header, Plane
from grata_monai.read.dicom.limits import Limits
from grata_monai.read.dicom.rejection import REMEDIES, Reason

MR = "1.2.840.10008.5.1.4.1.1.4"
LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
RLE = "1.2.840.10008.1.2.5"
JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
MPEG2 = "1.2.840.10008.1.2.4.100"

PLANE = Plane(
    number=1,
    position=(0.0, 0.0, 0.0),
    orientation=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    spacing=(0.5, 0.5),
    slope=1.0,
    intercept=0.0,
    frame_type=("ORIGINAL", "PRIMARY", "M"),
    stack="",
    echo="",
    temporal="",
    contrast="",
    acquisition="1",
    component="",
    scale=0.0,
)


@pytest.fixture
def header(tmp_path) -> Header:
    return Header(
        file=tmp_path / "a",
        transfer_syntax_uid=LITTLE_ENDIAN,
        sop_class_uid=MR,
        sop_instance_uid="1.1",
        study_uid="1.2",
        series_uid="1.3",
        frame_of_reference_uid="1.4",
        body_part="",
        description="",
        image_type=("ORIGINAL", "PRIMARY", "M"),
        photometric="MONOCHROME2",
        presentation="",
        rows=4,
        columns=8,
        frames=1,
        samples=1,
        bits_allocated=16,
        bits_stored=12,
        high_bit=11,
        is_signed=0,
        has_lookup_table=False,
        has_unclear_text=False,
        padding=(),
        pixel_tag=0x7FE00010,
        pixel_start=1000,
        is_native=True,
        is_complete=True,
        available_bytes=64,
        fragments=(),
        planes=(PLANE,),
    )


def reason_of(header: Header, plane: Plane = PLANE, limits: Limits | None = None) -> str:
    """The code that the instance is refused with; empty if it is not."""
    planes = (plane,) * len(header.planes)
    try:
        check_instance(replace(header, planes=planes), planes, limits=limits or Limits())
    except DicomError as error:
        has_remedy = str(error).endswith(REMEDIES[Reason(error.reason)])
        return error.reason if has_remedy else "no remedy"
    return ""


def test_a_good_instance_passes(header):
    assert reason_of(header) == ""
    assert reason_of(replace(header, available_bytes=66)) == ""  # padded
    encapsulated = {"transfer_syntax_uid": RLE, "is_native": False, "fragments": ((0, 10),)}
    assert reason_of(replace(header, **encapsulated)) == ""


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"transfer_syntax_uid": MPEG2}, "unsupported_transfer_syntax"),
        ({"transfer_syntax_uid": "1.2.3.4"}, "unsupported_transfer_syntax"),
        ({"transfer_syntax_uid": JPEG_EXTENDED}, "unsupported_transfer_syntax"),
        ({"samples": 3, "photometric": "RGB"}, "colour"),
        ({"photometric": "PALETTE COLOR"}, "colour"),
        ({"photometric": "MONOCHROME1"}, "invalid_pixel_format"),
        ({"photometric": ""}, "invalid_pixel_format"),
        ({"samples": -1}, "invalid_pixel_format"),
        ({"bits_allocated": 12}, "invalid_pixel_format"),
        ({"bits_stored": 17}, "invalid_pixel_format"),
        ({"bits_stored": 0}, "invalid_pixel_format"),
        ({"high_bit": 15}, "invalid_pixel_format"),
        ({"is_signed": -1}, "invalid_pixel_format"),
        ({"pixel_tag": 0x7FE00008}, "invalid_pixel_format"),
        ({"rows": 0}, "invalid_pixel_format"),
        ({"columns": 1}, "invalid_pixel_format"),
        ({"frames": -1}, "invalid_pixel_format"),
        ({"rows": 65535, "columns": 65535}, "over_pixel_budget"),
        ({"available_bytes": 63}, "truncated_pixel_data"),
        ({"is_complete": False}, "truncated_pixel_data"),
        ({"pixel_tag": 0, "available_bytes": 0}, "truncated_pixel_data"),
        ({"pixel_tag": 0, "photometric": "", "rows": -1}, "truncated_pixel_data"),
        ({"presentation": "COLOR"}, "colour"),
        ({"presentation": "MONOCHROME"}, ""),
        ({"frames": 2, "available_bytes": 128}, "unsupported_image"),
        ({"has_lookup_table": True}, "invalid_rescale"),
    ],
)
def test_a_faulty_instance_is_refused_by_its_code(header, changes, reason):
    assert reason_of(replace(header, **changes)) == reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"position": ()}, "invalid_geometry"),
        ({"position": (0.0, 0.0)}, "invalid_geometry"),
        ({"position": (0.0, np.nan, 0.0)}, "invalid_geometry"),
        ({"position": (0.0, 0.0, 1e9)}, "invalid_geometry"),
        ({"spacing": (0.5, np.nan)}, "invalid_geometry"),
        ({"spacing": (0.0, 0.5)}, "invalid_geometry"),
        ({"spacing": (-0.5, 0.5)}, "invalid_geometry"),
        ({"spacing": (np.inf, 0.5)}, "invalid_geometry"),
        ({"orientation": (0.0,) * 6}, "invalid_geometry"),
        ({"orientation": (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)}, "invalid_geometry"),
        ({"orientation": (1.01, 0.0, 0.0, 0.0, 1.0, 0.0)}, "invalid_geometry"),
        ({"orientation": (np.nan, 0.0, 0.0, 0.0, 1.0, 0.0)}, "invalid_geometry"),
        ({"slope": 0.0}, "invalid_rescale"),
        ({"slope": np.nan}, "invalid_rescale"),
        ({"slope": 1e39}, "invalid_rescale"),
        ({"slope": 1e36}, "invalid_rescale"),
        ({"slope": 1e-39}, "invalid_rescale"),
        ({"intercept": np.inf}, "invalid_rescale"),
        ({"intercept": -1e39}, "invalid_rescale"),
        ({"slope": -2.0, "intercept": 1e3}, ""),
        ({"orientation": (1.0, 4e-4, 0.0, 0.0, 1.0, 0.0)}, ""),
    ],
)
def test_a_faulty_plane_is_refused_by_its_code(header, changes, reason):
    assert reason_of(header, replace(PLANE, **changes)) == reason


def test_encapsulated_pixels_need_a_fragment_per_frame(header):
    changes = {
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.4.1",
        "transfer_syntax_uid": RLE,
        "is_native": False,
        "frames": 3,
        "planes": (PLANE,) * 3,
    }
    assert reason_of(replace(header, **changes, fragments=((0, 9),) * 3)) == ""
    assert reason_of(replace(header, **changes, fragments=((0, 9),) * 2)) == "truncated_pixel_data"
    fewer = {**changes, "planes": (PLANE,) * 2, "fragments": ((0, 9),) * 3}
    assert reason_of(replace(header, **fewer)) == "invalid_geometry"


def test_the_budget_counts_what_the_header_claims(header):
    assert reason_of(header, limits=Limits(pixel_budget_bytes=64)) == ""
    assert reason_of(header, limits=Limits(pixel_budget_bytes=63)) == "over_pixel_budget"


def test_a_transfer_syntax_is_named_unless_it_may_identify(header):
    for uid, name in ((MPEG2, "MPEG2 Main Profile"), ("1.2.3.4", "that the standard does not")):
        with pytest.raises(DicomError, match=name) as caught:
            check_instance(replace(header, transfer_syntax_uid=uid), header.planes, limits=Limits())
        assert "1.2.3.4" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, None),
        ({"image_type": ("ORIGINAL", "PRIMARY", "LOCALIZER")}, Reason.LOCALIZER),
        ({"image_type": ("DERIVED", "SECONDARY", "SCREEN SAVE")}, Reason.SECONDARY_CAPTURE),
        ({"image_type": ("DERIVED", "SECONDARY", "MPR")}, None),
        ({"sop_class_uid": "1.2.840.10008.5.1.4.1.1.7"}, Reason.SECONDARY_CAPTURE),
        ({"sop_class_uid": "1.2.840.10008.5.1.4.1.1.7.3"}, Reason.SECONDARY_CAPTURE),
        ({"sop_class_uid": "1.2.840.10008.5.1.4.1.1.6.1"}, Reason.UNSUPPORTED_IMAGE),
        (
            {"sop_class_uid": "1.2.840.10008.5.1.4.1.1.104.1", "rows": -1, "columns": -1},
            Reason.NOT_AN_IMAGE,
        ),
    ],
)
def test_what_is_no_image_of_a_volume_is_told_apart(header, changes, kind):
    assert find_kind(replace(header, **changes)) == kind
