"""Every small input of ../shared/field ends as its page says."""

import numpy as np
import pytest

from grata_monai.core import errors
from grata_monai.read.image import LoadImageCheckedd, read_image
from grata_monai.read.transforms import ScalePercentilesd

pytestmark = pytest.mark.realdata


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("c25_okz.mha", "UnreadableImageError", "is damaged"),
        ("codes00.nii.gz", "GeometryError", r"codes in .* are \[0\]"),
        ("nospacing.mhd", "GeometryError", "must have ElementSpacing"),
        ("vox0.nii", "UnreadableImageError", "vox_offset must be .* at least 352"),
    ],
)
def test_what_is_wrong_is_refused_by_name(field, name, error, message):
    with pytest.raises(getattr(errors, error), match=message):
        read_image(field / name)


@pytest.mark.parametrize("name", ["int8.nrrd", "fourd_first.nrrd"])
def test_what_other_readers_lack_is_read(field, name):
    image = read_image(field / name)
    assert tuple(image.shape) == (1, 96, 96, 16)
    expected = np.diag([-1.6, -1.6, 4.0, 1.0])
    np.testing.assert_allclose(image.affine.numpy(), expected, atol=1e-9)


def test_padding_does_not_change_the_scale_of_the_image(field):
    image = LoadImageCheckedd("image")({"image": str(field / "ppvneg")})["image"]
    assert image.meta["padding_fraction"] == pytest.approx(5 / 96)
    is_padding = image.numpy()[0, :, 0, 0] == image.min().item()
    assert is_padding.sum() >= 5
    scaled = ScalePercentilesd("image", 0.5, 99.5)({"image": image})["image"].numpy()[0]
    voxels = image.numpy()[0]
    inside = voxels[(voxels != voxels.min()).any(axis=(1, 2))]
    low, high = np.percentile(inside, [0.5, 99.5])
    kept = scaled[(voxels != voxels.min()).any(axis=(1, 2))]
    np.testing.assert_allclose(kept, ((inside - low) / (high - low)).clip(0, 1), atol=0.01)
