"""Philips' private scale is undone where slices differ in it, and left alone where they do not."""

import numpy as np
import pytest
from pydicom.dataset import Dataset

from grata_monai.core.errors import DicomError
from grata_monai.phantom.dicom import SeriesOptions, make_series, write_instances
from grata_monai.read.dicom.load import read_volume
from grata_monai.read.dicom.philips import find_rescales, read_scale
from grata_monai.read.dicom.triage import triage

NOTE = "Philips' scale slope differs between slices: applied"


def scaled(value, *, block=0x10, vr="FL", creator="Philips MR Imaging DD 001"):
    dataset = Dataset()
    dataset.add_new(0x20050000 | block, "LO", creator)
    dataset.add_new(0x20050000 | block << 8 | 0x0E, vr, value)
    return dataset


@pytest.mark.parametrize("block", [0x10, 0x15, 0x1F])
def test_the_scale_is_found_in_any_block(block):
    assert read_scale(scaled(0.5, block=block)) == 0.5


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf"), None])
def test_a_scale_that_is_none_is_absent(value):
    assert read_scale(scaled(value)) == 0.0


def test_bytes_of_an_unknown_type_are_read(monkeypatch):
    assert read_scale(scaled(b"\x00\x00\x00\x3f", vr="UN")) == 0.5
    assert read_scale(scaled(b"\x00", vr="UN")) == 0.0


def test_the_element_of_another_creator_is_none():
    assert read_scale(scaled(0.5, creator="ACME 1.0")) == 0.0
    assert read_scale(Dataset()) == read_scale(Dataset(), is_frame=True) == 0.0


def test_slices_become_values_of_the_reconstruction():
    """Worked by hand: (stored × 2 + 6) / (2 × 0.5) = 2 × stored + 6, then 3 and 0.1."""
    found = find_rescales([0.5, 0.1], [(2.0, 6.0), (3.0, 0.0)])
    np.testing.assert_allclose(found, [(2.0, 6.0), (10.0, 0.0)])


@pytest.mark.parametrize(
    ("scales", "rescales"),
    [
        ([0.0, 0.0], [(1.0, 0.0), (2.0, 5.0)]),
        ([0.5, 0.5], [(2.0, 1.0), (2.0, 1.0)]),
        ([0.5, 0.25], [(1.0, 0.0), (2.00001, 0.0)]),
    ],
)
def test_displayed_values_are_kept_where_slices_share_the_divisor(scales, rescales):
    assert find_rescales(scales, rescales) == rescales


def test_a_scale_on_some_slices_only_is_refused():
    with pytest.raises(DicomError, match="in all slices or in none, found it in 1 of 2") as caught:
        find_rescales([0.5, 0.0], [(1.0, 0.0)] * 2)
    assert caught.value.reason == "invalid_rescale"


@pytest.mark.parametrize("is_enhanced", [False, True])
def test_a_uniform_volume_stored_at_several_scales_is_read_as_uniform(tmp_path, is_enhanced):
    image = np.full((6, 5, 4), 400.0)
    options = SeriesOptions(
        vendor="philips", scales=(0.5, 1.0, 2.0, 4.0), rescale=(3.0, 0.0), is_enhanced=is_enhanced
    )
    datasets = make_series(image, np.eye(4), options=options)
    stored = np.concatenate([np.frombuffer(d.PixelData, "<u2") for d in datasets])
    assert set(stored.tolist()) == {200, 400, 800, 1600}
    write_instances(datasets, tmp_path)
    (volume,) = triage(tmp_path).volumes
    assert volume.notes == (NOTE,)
    assert set(read_volume(volume).numpy().ravel().tolist()) == {400.0}
