"""The application of MONAI Deploy, run as users do, gives what the dicom overlay gives."""

import json
import shutil

import pydicom
import pytest
from deploy_host import NOT_INSTALLED, is_installed, run_deploy, run_python, write_tree

from grata_monai import segment_dicom

pytestmark = [
    pytest.mark.hosts,
    pytest.mark.slow,
    pytest.mark.skipif(not is_installed(), reason=NOT_INSTALLED),
]
TINY = {"spacing": [2.4, 2.4, 6.0], "roi_size": [48, 48, 8]}
ONE_STEP = {
    "base": "clinical", "steps": 1, "windows": 1, "weak_views": ["identity"],
    "prediction_views": ["identity"], "min_cosine": None, "focus_views": [],
}  # fmt: skip
GEOMETRY = (
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "FrameOfReferenceUID",
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Two good series of different studies, and one that lacks a slice between them."""
    folder = tmp_path_factory.mktemp("tree")
    write_tree(folder)
    return folder


@pytest.fixture(scope="module")
def deployed(tree, tmp_path_factory):
    settings = {**TINY, "recipe": json.dumps(ONE_STEP)}
    return run_deploy(tree, tmp_path_factory.mktemp("deploy"), settings=settings)


@pytest.fixture(scope="module")
def overlay(tree, tmp_path_factory, repository):
    folder = tmp_path_factory.mktemp("overlay")
    settings = {**TINY, "recipe": ONE_STEP}
    run = segment_dicom(tree, folder, bundle_dir=repository / "bundle", settings=settings)
    assert len(run.results) == 2
    return folder


def test_a_broken_series_does_not_end_the_others_but_the_status_says_so(deployed):
    assert deployed.status == 1, deployed.err
    assert len(deployed.cases) == 2
    assert "missing_slices" in deployed.out
    assert deployed.out.endswith("2 segmented, 1 refused, 0 failed\n")


def test_pixels_and_geometry_are_those_of_the_overlay(deployed, overlay):
    for folder in deployed.cases:
        one, two = (
            pydicom.dcmread(place / "segmentation.dcm") for place in (folder, overlay / folder.name)
        )
        assert any(one.PixelData)
        assert one.PixelData == two.PixelData
        assert [one[name] for name in GEOMETRY] == [two[name] for name in GEOMETRY]
        assert one.SOPInstanceUID == two.SOPInstanceUID  # of everything that decides the content


def test_the_record_is_that_of_the_overlay_but_for_times(deployed, overlay):
    for folder in deployed.cases:
        one, two = (
            json.loads((place / "record.json").read_text())
            for place in (folder, overlay / folder.name)
        )
        assert one["outcome"] == "adapted"
        assert one["environment"]["bundle"]["is_verified"] is True
        assert two["dicom"].pop("made_from")  # a job is never taken up again, and names no key
        assert one["dicom"].pop("made_from") == ""
        assert {key for key in one if one[key] != two[key]} <= {"seconds"}


def test_the_refusals_are_those_of_the_overlay(deployed, overlay):
    one, two = ((place / "refused.json").read_bytes() for place in (deployed.folder, overlay))
    assert one == two


def test_the_entry_point_of_a_map_takes_its_folders_from_the_environment(
    tree, overlay, tmp_path, repository
):
    app, models, out = (tmp_path / name for name in ("app", "models", "out"))
    shutil.copytree(repository / "deploy" / "app", app)
    shutil.copytree(repository / "grata_monai", app / "grata_monai")
    shutil.copytree(repository / "bundle", models / "prostate")
    variables = {
        "HOLOSCAN_INPUT_PATH": str(tree / "good"),
        "HOLOSCAN_OUTPUT_PATH": str(out),
        "HOLOSCAN_MODEL_PATH": str(models),
    }
    settings = [f"--set={key}={value}" for key, value in TINY.items()]
    recipe = f"--set=recipe={json.dumps(ONE_STEP)}"
    done = run_python(
        [str(app), *settings, recipe], output_dir=out, variables=variables, cwd=tmp_path
    )
    assert done.status == 0, done.err
    (folder,) = done.cases
    one, two = (
        pydicom.dcmread(place / "segmentation.dcm") for place in (folder, overlay / folder.name)
    )
    assert one.PixelData == two.PixelData


def test_the_options_of_a_map_mean_the_same(tree, tmp_path):
    out = tmp_path / "out"
    arguments = ["-i", str(tree / "incomplete"), "-o", str(out), "-m", "bundle", "-l", "error"]
    done = run_python(["-m", "grata_monai.hosts.deploy", *arguments], output_dir=out)
    assert done.status == 1
    assert done.out.endswith("0 segmented, 1 refused, 0 failed\n")
    assert "INFO" not in done.err


def test_a_folder_without_dicom_is_one_line(tmp_path):
    (tmp_path / "in").mkdir()
    done = run_deploy(tmp_path / "in", tmp_path / "out")
    assert done.status == 2
    assert done.out == ""
    assert done.err.splitlines()[-1].startswith("error: dataset_dir must hold DICOM files")
    assert "Traceback" not in done.err


def test_without_folders_it_says_what_to_give(tmp_path):
    done = run_python(["-m", "grata_monai", "deploy"], output_dir=tmp_path)
    assert done.status == 2
    assert "error: INPUT must be given" in done.err
