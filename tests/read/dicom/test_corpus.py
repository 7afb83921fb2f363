"""Every kind of the corpus ends in its named rejection or in the exact volume."""

import json

import numpy as np
import pytest
from dicom_corpus import KINDS, TRAVERSAL
from dicom_readers import make_table

from grata_monai.core.errors import DicomError
from grata_monai.read.dicom.decode import decode_volume
from grata_monai.read.dicom.limits import Limits
from grata_monai.read.dicom.load import read_volume
from grata_monai.read.dicom.selection import Selection
from grata_monai.read.dicom.triage import triage

pytestmark = pytest.mark.slow

LIMITS = Limits(memory_bytes=768 * 2**20, seconds=10.0)
PLACE = 0.02  # mm: what rounding positions may cost


def judge(folder, selection):
    """Codes of all refusals, of triage and of decoding; and the volumes with their images."""
    found = triage(folder, selection=Selection.from_dict(selection), limits=LIMITS)
    codes, read = [rejection.reason.value for rejection in found.rejections], []
    for volume in found.volumes:
        try:
            read.append((volume, read_volume(volume, limits=LIMITS)))
        except DicomError as error:
            codes.append(error.reason)
    return found, sorted(codes), read


def is_exact(volume, image, expected, tolerance):
    """Whether every voxel and the whole affine are right; if tilted, those of the frames."""
    intensities, affine_ras = expected
    voxels, affine = image.numpy()[0], image.affine.numpy()
    if volume.tilt_degrees > 1:
        voxels, affine = decode_volume(volume, limits=LIMITS), volume.affine_ras
    return (
        voxels.shape == intensities.shape
        and np.abs(voxels - intensities).max() <= tolerance
        and np.abs(affine - affine_ras).max() <= PLACE
    )


def is_orthogonal(image):
    """Whether a network gets a grid without shear."""
    steps = image.affine.numpy()[:3, :3]
    products = steps.T @ steps
    return np.allclose(products, np.diag(np.diag(products)), atol=1e-4)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_it_is_refused_by_name_or_read_exactly(kind, tmp_path):
    kind.make(tmp_path)
    found, codes, read = judge(tmp_path, kind.selection)
    assert codes == sorted(kind.refused)
    assert found.skipped == kind.skipped
    left = list(kind.volumes())
    assert len(read) == len(left)
    for volume, image in read:
        matches = [
            i for i, each in enumerate(left) if is_exact(volume, image, each, kind.tolerance)
        ]
        assert matches, f"no expected volume is {volume.name}"
        del left[matches[0]]
        assert is_orthogonal(image)


def test_there_are_many_kinds_and_each_has_a_name_of_its_own():
    assert len({kind.name for kind in KINDS}) == len(KINDS) >= 100
    assert {True, False} == {kind.is_bomb for kind in KINDS}


def test_a_traversal_stays_in_hashes(tmp_path):
    (kind,) = (kind for kind in KINDS if "traversal" in kind.name)
    kind.make(tmp_path)
    found, _, _ = judge(tmp_path, {})
    (volume,) = found.volumes
    assert volume.series_uid == TRAVERSAL
    assert "/" not in volume.name
    assert ".." not in json.dumps(found.to_json())


def test_the_reference_shows_what_other_readers_do(repository, tmp_path):
    page = (repository / "docs" / "reference" / "dicom-corpus.md").read_text(encoding="utf-8")
    made, _, _ = page.partition("## Real files")
    shown = [line for line in made.splitlines() if line.startswith("| ")][1:]
    assert shown == make_table(tmp_path)
