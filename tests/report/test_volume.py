"""What the viewer gets is the image around the mask, as NIfTI, small enough for a page."""

import base64
import gzip

import nibabel as nib
import numpy as np
from reported import report_case

from grata_monai.report import volume
from grata_monai.report.volume import pack_volumes


def unpack(text: str) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(text)))


def test_the_packed_mask_is_the_kept_one_in_its_place():
    case = report_case()
    mask = unpack(pack_volumes(case)["mask"])
    assert np.count_nonzero(mask.dataobj) == np.count_nonzero(case.kept)
    there = mask.affine @ [*np.argwhere(np.asarray(mask.dataobj)).mean(0), 1]
    here = case.affine_ras @ [*np.argwhere(case.kept).mean(0), 1]
    np.testing.assert_allclose(there, here, atol=1e-3)
    assert mask.get_data_dtype() == np.uint8


def test_a_large_image_becomes_coarser_until_it_fits(monkeypatch):
    case = report_case()
    full = unpack(pack_volumes(case)["image"])
    monkeypatch.setattr(volume, "MOST_BYTES", 3_000)
    packed = pack_volumes(case)
    assert len(base64.b64decode(packed["image"])) <= 3_000
    small, mask = unpack(packed["image"]), unpack(packed["mask"])
    assert small.shape == mask.shape
    assert small.shape[0] < full.shape[0]
    assert small.shape[2] == full.shape[2], "there are few slices"
