"""Uncompressed pixels are the same with pydicom 2's interface as with the decoders of pydicom 3."""

import numpy as np
import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from grata_monai.phantom import make_case
from grata_monai.phantom.dicom import write_series
from grata_monai.read.dicom import codec


@pytest.fixture
def file(tmp_path):
    case = make_case(0, spacing=(4.0, 4.0, 6.0), spatial_shape=(20, 16, 8))
    return write_series(tmp_path, case.image, case.affine_ras)[2]


@pytest.mark.parametrize(("representation", "stored"), [(0, 16), (0, 12), (1, 12)])
def test_both_give_the_same_stored_values(file, monkeypatch, representation, stored):
    dataset = pydicom.dcmread(file)
    dataset.PixelRepresentation, dataset.BitsStored = representation, stored
    dataset.HighBit = stored - 1
    noise = np.random.default_rng(0).integers(0, 2**16, (dataset.Rows, dataset.Columns), np.uint16)
    dataset.PixelData = noise.tobytes()  # also above BitsStored
    dataset.save_as(file)
    (new,) = codec.iterate_frames(str(file), [0])
    monkeypatch.setattr(codec, "IS_OLD", True)
    (old,) = codec.iterate_frames(str(file), [0])
    assert np.array_equal(new, old)
    assert old.max() < 2**stored


def test_pydicom_2_has_no_decoder_that_is_trusted(file, monkeypatch):
    assert codec.has_decoder(RLELossless)
    monkeypatch.setattr(codec, "IS_OLD", True)
    assert codec.has_decoder(ExplicitVRLittleEndian)
    assert not codec.has_decoder(RLELossless)
    dataset = pydicom.dcmread(file)
    dataset.compress(RLELossless)
    dataset.save_as(file)
    with pytest.raises(NotImplementedError, match="must be uncompressed"):
        list(codec.iterate_frames(str(file), [0]))


def test_pydicom_2_misses_pixels_that_are_cut_off(file, monkeypatch):
    dataset = pydicom.dcmread(file)
    dataset.PixelData = dataset.PixelData[:-8]
    dataset.save_as(file)
    monkeypatch.setattr(codec, "IS_OLD", True)
    with pytest.raises(ValueError, match=r"less (data )?than expected"):
        list(codec.iterate_frames(str(file), [0]))
