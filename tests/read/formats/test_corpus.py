"""Every kind of the corpus ends in its named refusal or in the exact image, soon and cheaply."""

import numpy as np
import pytest
from image_corpus import AFFINE, KINDS
from image_readers import make_table

from grata_monai.core import errors
from grata_monai.read.image import read_image


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_it_is_refused_by_name_or_read_exactly(kind, tmp_path):
    path = kind.make(tmp_path)
    if kind.error:
        with pytest.raises(getattr(errors, kind.error), match=kind.message) as caught:
            read_image(path)
        assert type(caught.value).__name__ == kind.error
        assert repr(path.name) in str(caught.value)
        assert str(tmp_path) not in str(caught.value)
        return
    image = read_image(path)
    np.testing.assert_array_equal(image.numpy()[0], kind.voxels)
    np.testing.assert_allclose(image.affine.numpy(), AFFINE, atol=1e-6)


def test_there_are_many_kinds_and_each_has_a_name_of_its_own():
    assert len({kind.name for kind in KINDS}) == len(KINDS) >= 100


@pytest.mark.slow
def test_the_reference_shows_what_other_readers_do(repository, tmp_path):
    page = repository / "docs" / "reference" / "image-conditions.md"
    lines = page.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("| ")][1:] == make_table(tmp_path)
