"""Two labelled phantoms and a bundle for them; and rows without a network."""

import nibabel as nib
import numpy as np
import pytest
from tiny_bench import open_tiny
from toy_data import SIZE, blob

from grata_monai.experiments.harness.run import Row
from grata_monai.phantom import make_case
from grata_monai.read.cases import list_cases


@pytest.fixture(scope="session")
def bench():
    return open_tiny()


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Two labelled phantoms."""
    root = tmp_path_factory.mktemp("cases")
    for kind in ("images", "labels"):
        (root / kind).mkdir()
    for seed in (3, 4):
        case = make_case(seed, spacing=(2.4, 2.4, 6.0), spatial_shape=(48, 48, 8))
        for kind, voxels in (("images", case.image), ("labels", case.label)):
            nib.save(nib.Nifti1Image(voxels, case.affine_ras), root / kind / f"case{seed}.nii.gz")
    return root


@pytest.fixture(scope="session")
def cases(folder):
    return list_cases(folder, labels=True)


@pytest.fixture(scope="session")
def volumes(tmp_path_factory):
    """Volumes in two groups, the second class in the lower half of the first."""
    root = tmp_path_factory.mktemp("volumes")
    rng = np.random.default_rng(0)
    for group, count in (("group_float32", 12), ("group_uint8", 3)):
        for kind in ("images", "labels"):
            (root / group / kind).mkdir(parents=True)
        for number in range(count):
            image, label = blob(SIZE, rng)
            label[:, :, 8:] *= 2
            for kind, voxels in (("images", image), ("labels", label)):
                path = root / group / kind / f"{group}_{number:02}.nii.gz"
                nib.save(nib.Nifti1Image(voxels, np.eye(4)), path)
    return root


@pytest.fixture
def make_rows():
    """Rows of one method from its Dice per case; cases are numbered, centres alternate."""

    def make(method, scores, *, centres=("north", "south"), seconds=2.0, **given):
        return [
            Row(
                method,
                f"case{i}",
                centres[i % len(centres)],
                dice=dice,
                hd95=10 * (1 - dice),
                assd=1 - dice,
                seconds=seconds,
                peak_bytes=100.0 * seconds,
                **given,
            )
            for i, dice in enumerate(scores)
        ]

    return make
