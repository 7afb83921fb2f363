import json
import logging
import struct
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from grata_monai.core.errors import DicomError
from grata_monai.phantom.dicom import SeriesOptions, make_series, write_instances
from grata_monai.read.dicom.headers import Header, read_headers
from grata_monai.read.dicom.limits import Limits
from grata_monai.read.dicom.parse import parse_header

SHAPE = (40, 36, 4)  # columns, rows, slices
IMAGE = np.arange(40 * 36 * 4).reshape(SHAPE)
FRAME_BYTES = 40 * 36 * 2
AFFINE = np.diag([-1.5, -2.0, 3.0, 1.0])
LIMIT = 2**20
SECRET = "DOE^JOHN"


def write(folder, edit=lambda dataset: None, **options) -> Path:
    """One instance of a series, edited."""
    dataset = make_series(IMAGE, AFFINE, options=SeriesOptions(**options))[0]
    edit(dataset)
    return write_instances([dataset], folder)[0]


def parse(path, header_bytes=LIMIT):
    found = parse_header({"path": str(path), "header_bytes": header_bytes})
    return json.loads(json.dumps(found))


def take(path) -> Header:
    (header,) = read_headers([path], limits=Limits())
    return header


def test_a_header_says_what_was_written(tmp_path):
    header = take(write(tmp_path, rescale=(2.0, 0.0)))
    assert (header.columns, header.rows, header.frames) == (40, 36, 1)
    assert (header.bits_allocated, header.bits_stored, header.high_bit) == (16, 16, 15)
    (plane,) = header.planes
    assert plane.spacing == (2.0, 1.5)
    assert (plane.slope, plane.intercept) == (2.0, 0.0)
    assert header.is_complete
    assert header.pixel_range(1) == (header.pixel_start, FRAME_BYTES)
    stored = header.file.read_bytes()[header.pixel_start :]
    assert stored == pydicom.dcmread(header.file).PixelData


def test_an_enhanced_header_has_one_plane_per_frame(tmp_path):
    header = take(write(tmp_path, is_enhanced=True))
    assert [plane.number for plane in header.planes] == [1, 2, 3, 4]
    np.testing.assert_allclose([plane.position[2] for plane in header.planes], [0, 3, 6, 9])
    assert header.pixel_range(3) == (header.pixel_start + 2 * FRAME_BYTES, FRAME_BYTES)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_fragments_are_found_without_decoding(tmp_path, syntax, monkeypatch):
    path = write(tmp_path, is_enhanced=True, transfer_syntax=syntax)
    monkeypatch.setattr(pydicom.dataset.Dataset, "decompress", None)
    header = take(path)
    assert len(header.fragments) == 4
    pixels = pydicom.dcmread(path).PixelData
    frames = list(pydicom.encaps.generate_frames(pixels, number_of_frames=4))
    for number, frame in enumerate(frames, start=1):
        place = header.pixel_range(number)
        assert place is not None
        start, length = place
        assert path.read_bytes()[start : start + length] == frame


@pytest.mark.parametrize("keyword", ["AccessionNumber", "StudyID"])
def test_an_empty_identity_of_an_unknown_representation_is_empty(tmp_path, keyword):
    def edit(dataset):
        setattr(dataset, keyword, "")

    path = write(tmp_path, edit)
    known = struct.pack("<HH", *divmod(pydicom.datadict.tag_for_keyword(keyword), 2**16)) + b"SH"
    content = path.read_bytes()
    assert content.count(known) == 1
    path.write_bytes(content.replace(known, known[:-2] + b"Si"))
    assert parse(path)["has_unclear_text"] is False


@pytest.mark.parametrize("cut", [1, 2, 9, 30])
def test_a_cut_file_is_not_complete(tmp_path, cut):
    for index, syntax in enumerate((None, RLELossless)):
        path = write(tmp_path / str(index), **({"transfer_syntax": syntax} if syntax else {}))
        path.write_bytes(path.read_bytes()[:-cut])
        assert parse(path)["is_complete"] is False


def test_a_file_that_ends_within_its_header_is_unreadable(tmp_path):
    path = write(tmp_path)
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(DicomError, match="must be complete, it ends within its header"):
        parse(path)


@pytest.mark.parametrize("content", [b"", b"%PDF-1.7", b"\x1f\x8b" * 400, b"DICN" * 40])
def test_other_files_are_foreign(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    assert parse(tmp_path / "a") == {"what": "foreign"}


def test_a_data_set_without_preamble_is_no_foreign_file(tmp_path):
    content = write(tmp_path).read_bytes()
    for start in (128, 132):
        (tmp_path / "bare").write_bytes(content[start:])
        with pytest.raises(DicomError, match="must begin with the 128-byte preamble") as caught:
            parse(tmp_path / "bare")
        assert caught.value.reason == "unreadable"


def test_a_deflated_data_set_is_refused_before_anything_is_inflated(tmp_path, monkeypatch):
    path = write(tmp_path, transfer_syntax=DeflatedExplicitVRLittleEndian)
    monkeypatch.setattr("zlib.decompress", None)
    with pytest.raises(DicomError, match="is Deflated Explicit VR Little Endian") as caught:
        parse(path)
    assert caught.value.reason == "deflated"


def test_a_header_above_its_budget_is_refused(tmp_path):
    def edit(dataset):
        dataset.SharedFunctionalGroupsSequence = Sequence([_with_text("x" * 9000)])

    path = write(tmp_path, edit)
    assert parse(path)["what"] == "instance"
    with pytest.raises(DicomError, match="must keep the header within its limit"):
        parse(path, header_bytes=9000)


def test_long_elements_that_are_not_needed_cost_nothing(tmp_path):
    def edit(dataset):
        dataset.add_new(0x00091010, "OB", b"x" * 10**6)

    assert parse(write(tmp_path, edit), header_bytes=20_000)["rows"] == 36


def test_endless_items_end_at_the_budget(tmp_path):
    path = write(tmp_path)
    head = path.read_bytes()[:1000]
    start = head.index(struct.pack("<HH", 0x0008, 0x0005)) if b"\x08\x00\x05\x00" in head else 400
    items = struct.pack("<HH2sHL", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF)
    path.write_bytes(head[:start] + items + struct.pack("<HHL", 0xFFFE, 0xE000, 0) * 20_000)
    with pytest.raises(DicomError, match="must keep the header within its limit"):
        parse(path)


def test_deep_nesting_is_a_rejection(tmp_path):
    path = write(tmp_path)
    head = path.read_bytes()
    meta_end = 144 + int.from_bytes(head[140:144], "little")
    level = struct.pack("<HH2sHL", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF)
    level += struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    path.write_bytes(head[:meta_end] + level * 5000)
    with pytest.raises(DicomError, match=r"RecursionError|within its limit"):
        parse(path, header_bytes=2**26)
    (found,) = read_headers([path], limits=Limits())
    assert isinstance(found, DicomError)
    assert found.reason == "unreadable"


@pytest.mark.parametrize("length", [10**6, 0xFFFFFFFE, 0xFFFFFFFF])
def test_a_length_beyond_the_file_is_a_rejection(tmp_path, length):
    path = write(tmp_path)
    head = path.read_bytes()
    meta_end = 144 + int.from_bytes(head[140:144], "little")
    element = struct.pack("<HH2sHL", 0x0008, 0x0001, b"OB", 0, length)
    path.write_bytes(head[:meta_end] + element + head[meta_end:])
    with pytest.raises(DicomError, match="DICOM file must"):
        parse(path)


def test_uids_that_are_missing_or_endless_are_refused(tmp_path):
    for uid, count in (("", 0), ("1" * 65, 65)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            path = write(tmp_path, lambda d, uid=uid: setattr(d, "SeriesInstanceUID", uid))
        with pytest.raises(DicomError, match=f"a SeriesInstanceUID of 1 to 64 .* has {count}"):
            parse(path)


def test_numbers_that_are_none_become_nan(tmp_path):
    path = write(tmp_path, rescale=(1.0, 0.0))
    content = path.read_bytes()
    assert content.count(b"3.0 ") or content.count(b"3 ")
    tag = struct.pack("<HH", 0x0028, 0x1053) + b"DS"
    at = content.index(tag)
    size = int.from_bytes(content[at + 6 : at + 8], "little")
    content = content[: at + 8] + b"ab"[:size] + b" " * (size - 2) + content[at + 8 + size :]
    path.write_bytes(content)
    assert np.isnan(parse(path)["planes"][0]["slope"])


def test_nothing_of_an_element_gets_into_logs_or_warnings(tmp_path, caplog):
    def edit(dataset):
        dataset.SeriesDescription = SECRET
        dataset.add_new("PixelSpacing", "DS", ["1", "1"])

    path = write(tmp_path, edit)
    content = path.read_bytes().replace(b"ORIGINAL", b"DOE^JOHN")
    broken = content.replace(struct.pack("<HH", 0x0028, 0x0010) + b"US", b"\x28\x00\x10\x00DS")
    path.write_bytes(broken)
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings():
        warnings.simplefilter("error")
        parse(path)
    assert SECRET not in caplog.text
    assert not logging.getLogger("pydicom").disabled


def test_a_file_that_cannot_be_opened_is_a_rejection(tmp_path):
    with pytest.raises(DicomError, match="must be readable, got FileNotFoundError"):
        parse(tmp_path / "gone")


def test_one_hostile_file_does_not_stop_the_others(tmp_path):
    good = write(tmp_path / "good")
    bad = tmp_path / "bad"
    bad.write_bytes(good.read_bytes()[:700])
    done = []
    found = list(
        read_headers([good, bad, good], limits=Limits(), progress=lambda *n: done.append(n))
    )
    assert [type(header) for header in found] == [Header, DicomError, Header]
    assert done == [(1, 3), (2, 3), (3, 3)]


def _with_text(text):
    item = Dataset()
    item.add_new(0x00204000, "LT", text)
    return item
