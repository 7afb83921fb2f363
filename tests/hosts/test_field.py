"""Every input of ../shared/field ends as its page says, in a run of the bundle and MONAI Label.

The bundle works on the inputs' own grid in one window, with the shipped weights.
"""

import json
import os
import re
import subprocess
import sys
from shutil import copy2

import highdicom as hd
import nibabel as nib
import numpy as np
import pytest
from label_server import NOT_INSTALLED, is_installed, make_tiny_bundle, running_label

pytestmark = [pytest.mark.realdata, pytest.mark.slow]

REFUSED = {
    "c25_okz.mha": "is damaged",
    "codes00.nii.gz": r"codes in .* are \[0\]",
    "nospacing.mhd": "must have ElementSpacing",
    "vox0.nii": "vox_offset must be .* at least 352",
}
READ = ("fourd_first.nrrd", "int8.nrrd")
PADDED = 5  # columns
QUICK = {"base": "clinical", "name": "quick", "steps": 1, "windows": 1, "search_views": []}
QUICK |= {"focus_views": ["identity"], "source_below": 0.0}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    settings = {"spacing": [1.6, 1.6, 4.0], "roi_size": [96, 96, 16], "recipe": "source"}
    return make_tiny_bundle(tmp_path_factory.mktemp("field") / "bundle", **settings)


def run(bundle, data, out, *more, overlays=()):
    """Run the bundle in a process of its own; what it says, and its exit status."""
    configs = [str(bundle / "configs" / f"{name}.json") for name in ("inference", *overlays)]
    command = ["monai.bundle", "run", "inference", "--config_file", str(configs)]
    done = subprocess.run(
        [sys.executable, "-m", *command, "--dataset_dir", str(data), "--output_dir", out, *more],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return done.returncode, " ".join(re.sub(r"[│┃|]", " ", done.stdout + done.stderr).split())


def outcome(path):
    return json.loads(path.read_text())["outcome"]


@pytest.fixture(scope="module")
def ran(field, bundle, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "out"
    return out, *run(bundle, field, str(out))


@pytest.fixture(scope="module")
def adapted(field, bundle, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "adapted"
    return out, *run(bundle, field, str(out), "--recipe", json.dumps(QUICK))


@pytest.mark.parametrize(("recipe", "expected"), [("ran", "source"), ("adapted", "adapted")])
def test_a_run_masks_what_is_good_names_what_is_not_and_fails(recipe, expected, request):
    out, status, said = request.getfixturevalue(recipe)
    assert status != 0
    for name, reason in REFUSED.items():
        assert re.search(reason, said), name
    masks = {path.name for path in out.glob("*_seg.nii.gz")}
    assert masks == {f"{name.partition('.')[0]}_seg.nii.gz" for name in READ}
    for name in READ:
        stem = name.partition(".")[0]
        mask = nib.Nifti1Image.from_filename(out / f"{stem}_seg.nii.gz")
        np.testing.assert_allclose(mask.affine, np.diag([-1.6, -1.6, 4.0, 1.0]), atol=1e-6)
        assert np.asarray(mask.dataobj).any()
        assert outcome(out / f"{stem}_record.json") == expected


@pytest.mark.parametrize("recipe", ["source", QUICK], ids=["source", "clinical"])
def test_a_series_is_segmented_as_if_it_had_no_padding(recipe, field, bundle, ran, tmp_path):
    more = ("--recipe", json.dumps(recipe))
    status, said = run(bundle, field / "ppvneg", str(tmp_path / "out"), *more, overlays=["dicom"])
    assert status == 0, said
    (path,) = (tmp_path / "out").glob("*/segmentation.dcm")
    mask = hd.seg.segread(path).get_volume(combine_segments=True).array > 0
    plain = nib.Nifti1Image.from_filename(ran[0] / "fourd_first_seg.nii.gz")
    assert not mask[:, :, :PADDED].any()
    assert 0.5 < mask.sum() / (np.asarray(plain.dataobj) > 0).sum() < 2  # 5 with the padding


@pytest.mark.hosts
@pytest.mark.skipif(not is_installed(), reason=NOT_INSTALLED)
def test_monai_label_answers_as_the_run_does(field, bundle, ran, tmp_path):
    studies = tmp_path / "studies"
    (studies / "ppvneg").mkdir(parents=True)
    for file in [*field.glob("*.*"), *field.glob("ppvneg/*")]:
        copy2(file, studies / file.relative_to(field))
    with running_label(tmp_path, bundle=bundle) as server:
        for name, reason in REFUSED.items():
            answer = server.segment(studies / name)
            assert answer.status == 422, name
            assert re.search(reason, answer.params["detail"])
        for name in READ:
            expected = nib.Nifti1Image.from_filename(
                ran[0] / f"{name.partition('.')[0]}_seg.nii.gz"
            )
            assert np.array_equal(server.segment(studies / name).mask, expected.dataobj)
        for recipe in ("source", QUICK):
            padded = server.segment(studies / "ppvneg", result_extension="", recipe=recipe)
            assert padded.mask.any()
            assert not padded.mask[:PADDED].any()
        for name in READ:
            assert server.segment(studies / name, recipe=QUICK).status == 200
