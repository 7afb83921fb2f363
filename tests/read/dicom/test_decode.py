"""Frames of every transfer syntax decode to what was written; everything else is refused."""

import dataclasses
import resource
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from grata_monai.core.errors import DicomError
from grata_monai.phantom.dicom import TRANSFER_SYNTAXES, SeriesOptions, stored_volume
from grata_monai.read.dicom.decode import decode_volume
from grata_monai.read.dicom.limits import Limits
from grata_monai.read.dicom.rejection import Reason
from grata_monai.read.dicom.volume import DicomVolume, SourceFrame

pytestmark = pytest.mark.slow

MEBIBYTE = 2**20
LIMITS = Limits()
WAVELET_SHAPE = (41, 36, 5)  # JPEG 2000's levels need at least 32 pixels each way
LOSSLESS = [
    s for s in TRANSFER_SYNTAXES if s not in (DeflatedExplicitVRLittleEndian, JPEGBaseline8Bit)
]


def expect(image, affine_ras, **options):
    return stored_volume(image, affine_ras, options=SeriesOptions(**options))[0]


@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda uid: UID(uid).keyword)
@pytest.mark.parametrize("is_signed", [False, True])
def test_lossless_syntaxes_give_every_value(
    make_volume, make_image, make_affine, syntax, is_signed
):
    low = -2048 if is_signed else 0
    options = {
        "transfer_syntax": syntax,
        "is_signed": is_signed,
        "bits_stored": 12,
        "is_shuffled": True,
    }
    image = make_image(WAVELET_SHAPE, low=low, high=low + 4095)
    volume = make_volume(image, **options)
    found = decode_volume(volume, limits=LIMITS)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expect(image, make_affine(), **options))


def test_jpeg_baseline_gives_nearly_every_value(make_volume, make_affine):
    i, j, k = np.meshgrid(*(np.arange(extent) for extent in (16, 16, 3)), indexing="ij")
    image = (8.0 * i + 4.0 * j + 10.0 * k).round()  # smooth, as JPEG wants it
    options = {"transfer_syntax": JPEGBaseline8Bit, "bits_stored": 8}
    found = decode_volume(make_volume(image, **options), limits=LIMITS)
    assert np.abs(found - expect(image, make_affine(), **options)).max() <= 4


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless, JPEG2000Lossless])
@pytest.mark.parametrize("modality", ["MR", "CT"])
def test_enhanced_files_give_every_frame(make_volume, make_image, make_affine, syntax, modality):
    options = {"is_enhanced": True, "transfer_syntax": syntax, "modality": modality}
    low = -1024 if modality == "CT" else 0
    image = make_image(WAVELET_SHAPE, low=low, high=low + 4095)
    volume = make_volume(image, **options)
    found = decode_volume(volume, limits=LIMITS)
    np.testing.assert_array_equal(found, expect(image, make_affine(), **options))


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
def test_only_the_frames_of_the_volume_are_decoded(make_volume, syntax):
    volume = make_volume(is_enhanced=True, transfer_syntax=syntax)
    every = decode_volume(volume, limits=LIMITS)
    part = dataclasses.replace(volume, frames=(volume.frames[3], volume.frames[1]))
    np.testing.assert_array_equal(decode_volume(part, limits=LIMITS), every[:, :, [3, 1]])


def test_each_slice_has_its_own_rescale(make_volume, make_image, make_affine):
    rescale = ((0.5, -7.0), (2.0, 0.0), (2e-3, 5.0), (1.0, -1024.0), (3.25, 1.0))
    image = make_image(high=50)
    options = {"rescale": rescale, "is_signed": True}
    expected = expect(image, make_affine(), **options)
    found = decode_volume(make_volume(image, **options), limits=LIMITS)
    np.testing.assert_allclose(found, expected, rtol=1e-7)


def test_bits_above_bits_stored_are_cleared(make_volume, make_image, make_affine):
    image = make_image()
    volume = make_volume(image, bits_stored=12)
    for frame in volume.frames:  # an overlay in the unused bits, as old scanners put it
        dataset = pydicom.dcmread(frame.file)
        stored = np.frombuffer(dataset.PixelData, np.uint16) | 0x3000
        dataset.PixelData = stored.tobytes()
        dataset.save_as(frame.file)
    found = decode_volume(volume, limits=LIMITS)
    np.testing.assert_array_equal(found, expect(image, make_affine(), bits_stored=12))


def read_small(name):
    """A volume of one frame from pydicom's own files, which other programs have written."""
    path = Path(get_testdata_file(name, download=False))
    dataset = pydicom.dcmread(path, stop_before_pixels=True)
    uid = str(dataset.SOPInstanceUID)
    count = int(dataset.get("NumberOfFrames", 1))
    frames = tuple(SourceFrame(path, n + 1, uid, (0.0, 0.0, float(n))) for n in range(count))
    return DicomVolume(
        name, frames, dataset.Rows, dataset.Columns, (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), 1.0, 1.0,
        "1", "2", "3", "4", (), "MR",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("MR_small_RLE.dcm", "MR_small.dcm"),
        ("MR_small_jp2klossless.dcm", "MR_small.dcm"),
        ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm"),
        ("MR_small_bigendian.dcm", "MR_small.dcm"),
        ("emri_small_RLE.dcm", "emri_small.dcm"),
        ("emri_small_jpeg_2k_lossless.dcm", "emri_small.dcm"),
        ("emri_small_jpeg_ls_lossless.dcm", "emri_small.dcm"),
    ],
)
def test_files_of_other_programs_equal_their_uncompressed_twins(name, reference):
    if get_testdata_file(name, download=False) is None:
        pytest.skip(f"pydicom does not ship {name}")
    found = decode_volume(read_small(name), limits=LIMITS)
    plain = pydicom.dcmread(get_testdata_file(reference, download=False))
    frames = np.frombuffer(plain.PixelData, "<i2" if plain.PixelRepresentation else "<u2")
    frames = frames[: found.size].reshape(found.shape[::-1])
    np.testing.assert_array_equal(found, frames.transpose(2, 1, 0))


@pytest.mark.parametrize(
    ("slope", "intercept"),
    [(1e39, 0.0), (float("nan"), 0.0), (float("inf"), 0.0), (1.0, float("-inf")), (1e35, 1e38)],
)
def test_intensities_that_are_no_float32_are_refused(make_volume, slope, intercept):
    volume = make_volume()
    last = dataclasses.replace(volume.frames[-1], slope=slope, intercept=intercept)
    broken = dataclasses.replace(volume, frames=(*volume.frames[:-1], last))
    with pytest.raises(DicomError, match="of frame 5 of the volume make others") as caught:
        decode_volume(broken, limits=LIMITS)
    assert caught.value.reason == Reason.INVALID_RESCALE


@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda uid: UID(uid).keyword)
def test_pixels_that_end_early_are_refused(make_volume, make_image, syntax):
    volume = make_volume(make_image((64, 64, 3)), transfer_syntax=syntax)
    path = volume.frames[1].file
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(DicomError, match="that of frame 2 of the volume is not") as caught:
        decode_volume(volume, limits=LIMITS)
    native = Reason.TRUNCATED_PIXEL_DATA if not UID(syntax).is_compressed else Reason.UNDECODABLE
    assert caught.value.reason == native


def test_a_stream_cut_inside_its_container_is_refused(make_volume, make_image):
    volume = make_volume(make_image((64, 64, 3)), transfer_syntax=JPEG2000Lossless)
    path = volume.frames[1].file
    dataset = pydicom.dcmread(path)
    (stream,) = pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1)
    dataset.PixelData = encapsulate([stream[:-3000]])
    dataset.save_as(path)
    with pytest.raises(DicomError, match="that of frame 2 of the volume is not") as caught:
        decode_volume(volume, limits=LIMITS)
    assert caught.value.reason == Reason.UNDECODABLE


def test_a_vanished_file_is_refused(make_volume):
    volume = make_volume()
    volume.frames[2].file.unlink()
    with pytest.raises(DicomError, match=r"frame 3 of the volume is not \(FileNotFound") as caught:
        decode_volume(volume, limits=LIMITS)
    assert caught.value.reason == Reason.UNREADABLE


def test_a_file_exchanged_after_triage_is_refused(make_volume):
    volume = make_volume()
    volume.frames[2].file.write_bytes(volume.frames[3].file.read_bytes())
    with pytest.raises(DicomError, match="frame 3 of the volume is another instance") as caught:
        decode_volume(volume, limits=LIMITS)
    assert caught.value.reason == Reason.UNREADABLE


@pytest.mark.parametrize(
    ("keyword", "value", "reason"),
    [
        ("Rows", 65535, Reason.MIXED_SIZE),
        ("Columns", 3, Reason.MIXED_SIZE),
        ("SamplesPerPixel", 3, Reason.MIXED_SIZE),
    ],
)
def test_a_header_unlike_what_triage_saw_is_refused_undecoded(make_volume, keyword, value, reason):
    volume = make_volume()
    change(volume.frames[0].file, **{keyword: value})
    with pytest.raises(DicomError, match="frames must have 6×7 pixels of 1 sample") as caught:
        decode_volume(volume, limits=LIMITS)
    assert caught.value.reason == reason


def test_a_frame_that_the_file_does_not_claim_is_refused(make_volume):
    volume = make_volume(is_enhanced=True)
    change(volume.frames[0].file, NumberOfFrames=4)
    with pytest.raises(DicomError, match=r"file must hold 5 frames, that of .* says 4") as caught:
        decode_volume(volume, limits=LIMITS)
    assert caught.value.reason == Reason.TRUNCATED_PIXEL_DATA


def test_a_volume_above_the_budget_is_refused_before_a_file_is_opened(make_volume):
    volume = dataclasses.replace(make_volume(), rows=65535, columns=65535)
    for frame in volume.frames:
        frame.file.unlink()
    with pytest.raises(DicomError, match=r"at most 2147483648 bytes, 65535×65535×5") as caught:
        decode_volume(volume, limits=LIMITS)
    assert caught.value.reason == Reason.OVER_PIXEL_BUDGET


def test_a_bomb_within_the_budget_ends_at_the_limit_of_memory(make_volume):
    volume = make_volume(transfer_syntax=RLELossless)
    frame = volume.frames[0]
    change(frame.file, Rows=16000, Columns=16000)
    claims = dataclasses.replace(volume, frames=(frame,), rows=16000, columns=16000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DicomError, match="must") as caught:
        decode_volume(claims, limits=Limits(memory_bytes=384 * MEBIBYTE))
    assert caught.value.reason in (Reason.OVER_DECODING_LIMIT, Reason.UNDECODABLE)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


def test_a_bomb_inside_the_codestream_is_refused(make_volume, make_image):
    volume = make_volume(make_image((64, 64, 3)), transfer_syntax=JPEG2000Lossless)
    path = volume.frames[0].file
    dataset = pydicom.dcmread(path)
    stream = bytearray(next(pydicom.encaps.generate_frames(dataset.PixelData)))
    size = stream.index(b"\xff\x51") + 6  # after marker, length, capabilities: width and height
    stream[size : size + 8] = (60000).to_bytes(4, "big") * 2
    dataset.PixelData = encapsulate([bytes(stream)])
    dataset.save_as(path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DicomError, match="must") as caught:
        decode_volume(volume, limits=Limits(memory_bytes=512 * MEBIBYTE, seconds=10.0))
    assert caught.value.reason in (Reason.OVER_DECODING_LIMIT, Reason.UNDECODABLE)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


def test_no_error_tells_what_the_header_says(make_volume, caplog, capfd):
    volume = make_volume()
    change(volume.frames[0].file, PatientName="DOE^JANE", Rows=9)
    with pytest.raises(DicomError, match="frames must have") as caught:
        decode_volume(volume, limits=LIMITS)
    heard = str(caught.value) + caplog.text + "".join(capfd.readouterr())
    for secret in ("DOE", str(volume.frames[0].file), volume.series_uid):
        assert secret not in heard


def change(path, **elements):
    dataset = pydicom.dcmread(path)
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)
