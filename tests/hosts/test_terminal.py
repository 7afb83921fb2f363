"""`grata-monai segment IN OUT`: what is given is told apart, and what is done stays done."""

import csv
import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom import dcmread

from grata_monai import segment
from grata_monai.adapt.recipe import CLINICAL, RECIPES
from grata_monai.cli import main
from grata_monai.hosts.terminal.extras import Extras
from grata_monai.hosts.terminal.inputs import tell_apart
from grata_monai.hosts.terminal.upgrade import compare_results
from grata_monai.phantom import make_case
from grata_monai.phantom.dicom import write_series
from grata_monai.read.dicom.triage import triage
from grata_monai.write.pictures.planes import cut_into_planes

SPACING, SHAPE = (2.4, 2.4, 6.0), (48, 48, 8)
TINY = [
    *("--set", f"spacing={list(SPACING)}", "--set", f"roi_size={list(SHAPE)}"),
    *("--set", "report=false"),
]


def tiny_case(seed):
    return make_case(seed, spacing=SPACING, spatial_shape=SHAPE)


def save_image(path, seed=0):
    case = tiny_case(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(case.image, case.affine_ras), path)
    return path


def run(path, out, *options):
    return main(["segment", str(path), str(out), "--recipe", "source", *TINY, *options])


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A folder with one image and one DICOM series."""
    folder = tmp_path_factory.mktemp("mixed")
    save_image(folder / "a.nii.gz")
    case = tiny_case(5)
    write_series(folder / "series", case.image, case.affine_ras)
    return folder


@pytest.fixture(scope="module")
def done(mixed, tmp_path_factory):
    """Everything that can be asked for, once."""
    out = tmp_path_factory.mktemp("out")
    assert run(mixed, out, "--preview", "--statistics") == 0
    return out


def names(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


# ------------------------------------------------------------------------------- workers


@pytest.mark.slow
def test_two_workers_write_what_one_process_writes(tmp_path, capsys):
    folder, outs = tmp_path / "in", [tmp_path / "one", tmp_path / "two"]
    whole = [save_image(folder / f"{name}.nii.gz", seed) for seed, name in enumerate("ab")]
    (folder / "cut.nii.gz").write_bytes(whole[0].read_bytes()[:5000])
    case = tiny_case(5)
    write_series(folder / "series", case.image, case.affine_ras)
    tiny = [*TINY[:-2], "--recipe", "source", "--statistics"]
    told = []
    for out, more in zip(outs, ([], ["--workers", "2"]), strict=True):
        assert main(["segment", str(folder), str(out), *tiny, *more]) == 1
        told.append(capsys.readouterr().out.splitlines()[-1].partition(";")[0])
    assert told == ["3 segmented, 1 failed"] * 2
    assert names(outs[1]) == names(outs[0])
    for name in ("a_seg.nii.gz", "b_seg.nii.gz", "statistics.csv"):
        assert (outs[1] / name).read_bytes() == (outs[0] / name).read_bytes()
    index = (outs[1] / "index.html").read_text()
    assert all(f'"case": "{case}"' in index for case in ("a", "b", "cut"))
    one, two = (next(out.glob("*/segmentation.dcm")) for out in outs)
    assert dcmread(one).PixelData == dcmread(two).PixelData
    assert main(["segment", str(folder), str(outs[1]), *tiny, "--workers", "2"]) == 1
    assert "0 segmented, 3 done before, 1 failed" in capsys.readouterr().out


def test_what_goes_from_case_to_case_needs_one_process(tmp_path, capsys):
    save_image(tmp_path / "in" / "a.nii.gz")
    online = ["--set", 'recipe={"base": "source", "memory": "online"}']
    online += ["--set", 'inferer#memory={"_target_": "grata_monai.OnlineMemory"}', "--workers", "2"]
    assert main(["segment", str(tmp_path / "in"), str(tmp_path / "out"), *TINY, *online]) == 2
    assert "--workers must not stand beside an inferer's memory" in capsys.readouterr().err


# ------------------------------------------------------------------------------- results


def test_images_get_nifti_and_series_get_dicom_objects(done):
    (series,) = (path.parent.name for path in done.glob("*/segmentation.dcm"))
    objects = ("segmentation.dcm", "record.json", "capture.dcm", "measurements.dcm")
    assert names(done) >= {
        *("a_seg.nii.gz", "a_record.json", "a_preview.png"),
        *(f"{series}/{name}" for name in objects),
        *("refused.json", "statistics.json", "statistics.csv"),
    }
    assert not [name for name in names(done) if name.startswith(f"{series}_")]


def test_statistics_are_those_of_the_masks(done):
    sizes = json.loads((done / "statistics.json").read_text())
    mask = np.asarray(nib.Nifti1Image.from_filename(done / "a_seg.nii.gz").dataobj)
    volume = mask.sum() * np.prod(SPACING) / 1000
    assert sizes["a"]["prostate"]["volume_ml"] == pytest.approx(volume, abs=1e-3)
    depth = np.ptp(np.flatnonzero(mask.any(axis=(0, 1)))) + 1
    assert sizes["a"]["prostate"]["depth_mm"] == pytest.approx(depth * SPACING[2], abs=1e-3)
    with (done / "statistics.csv").open(newline="") as file:
        rows = {row["case"]: row for row in csv.DictReader(file)}
    assert rows.keys() == sizes.keys()
    assert float(rows["a"]["volume_ml"]) == sizes["a"]["prostate"]["volume_ml"]


def test_the_mask_is_that_of_python(mixed, done):
    settings = {"spacing": list(SPACING), "roi_size": list(SHAPE)}
    result = segment(mixed / "a.nii.gz", recipe="source", settings=settings)
    written = nib.Nifti1Image.from_filename(done / "a_seg.nii.gz")
    assert np.array_equal(np.asarray(written.dataobj), result.mask)


# ------------------------------------------------------------------------------- going on


def test_the_same_command_does_nothing_again(mixed, done, capsys, monkeypatch):
    looked: list[str] = []

    def count(path, **options):
        looked.append(path)
        return triage(path, **options)

    monkeypatch.setattr("grata_monai.read.dicom.cases.triage", count)
    before = {path: path.stat().st_mtime_ns for path in done.rglob("*.gz")}
    assert run(mixed, done, "--preview", "--statistics") == 0
    assert capsys.readouterr().out == f"0 segmented, 2 done before; results in {done}\n"
    assert {path: path.stat().st_mtime_ns for path in done.rglob("*.gz")} == before
    assert len(json.loads((done / "statistics.json").read_text())) == 2
    assert len(looked) == 1  # a tree of thousands of files is slow to go through


def test_ctrl_c_says_in_one_sentence_how_far_it_came(tmp_path, monkeypatch, capsys, caplog):
    for name in ("a", "b", "c"):
        save_image(tmp_path / "in" / f"{name}.nii.gz")
    conclude = Extras._conclude

    def stop_at_the_second(self, case, item):
        if case == "b":
            raise KeyboardInterrupt
        conclude(self, case, item)

    with monkeypatch.context() as patched:
        patched.setattr(Extras, "_conclude", stop_at_the_second)
        assert run(tmp_path / "in", tmp_path / "out", "--statistics") == 130
    told = capsys.readouterr().err.splitlines()[-1]
    assert told == "stopped: 1 of 3 cases are done. The same command goes on with the others."
    assert "Engine run" not in caplog.text
    assert (tmp_path / "out" / "b_seg.nii.gz").is_file()  # its sizes are missing
    assert run(tmp_path / "in", tmp_path / "out", "--statistics") == 0
    assert capsys.readouterr().out.startswith("2 segmented, 1 done before; ")
    assert json.loads((tmp_path / "out" / "statistics.json").read_text()).keys() == {*"abc"}
    (tmp_path / "in" / "a.nii.gz").write_bytes(b"no image")
    assert run(tmp_path / "in", tmp_path / "out", "--statistics") == 1
    assert json.loads((tmp_path / "out" / "statistics.json").read_text()).keys() == {*"bc"}


# ------------------------------------------------------------------------------- told apart


def test_what_is_given_is_told_apart(mixed, tmp_path):
    dicom = next((mixed / "series").iterdir())
    (tmp_path / "list.json").write_text("{}")
    found = {
        path: (tell_apart(path).has_images, tell_apart(path).has_dicom)
        for path in (mixed, mixed / "a.nii.gz", mixed / "series", dicom, tmp_path / "list.json")
    }
    assert list(found.values()) == [
        (True, True),
        (True, False),
        (False, True),
        (False, True),
        (True, False),
    ]


def test_images_that_lie_too_deep_are_counted(mixed, tmp_path):
    assert tell_apart(mixed).overlooked == 0
    for place in ("images", "north/images", "north/labels", "deep", "one/two/images", "masks"):
        save_image(tmp_path / place / "a.nii.gz")
    (tmp_path / "masks" / "a_record.json").write_text("{}")
    assert tell_apart(tmp_path).overlooked == 2


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ("empty", [], "IN must be or hold images .*, 'empty' holds none"),
        ("missing", [], "IN must exist, got 'missing'"),
        ("mixed", ["--dicom"], "--dicom must have DICOM series only, IN holds images"),
        ("mixed", ["--nifti", "--preview"], "--preview must not stand beside --nifti"),
        ("mixed", ["--set", "recipe=views"], "recipe must be given once"),
        ("mixed", ["--set", "recipee=views"], "got 'recipee'. Did you mean 'recipe'"),
        ("mixed", ["--method", "tnt"], "method must be among .*grata-views.*Did you mean 'tent'"),
        ("mixed", ["--bundle", "empty"], "manifest.sha256"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(
    given, options, message, mixed, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    path = mixed if given == "mixed" else Path(given)
    assert run(path, tmp_path / "out", *options) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert re.search(message, error)


def test_results_may_not_lie_among_series(mixed, capsys):
    assert run(mixed / "series", mixed / "series" / "out") == 2
    assert "OUT must lie outside of the DICOM folder IN" in capsys.readouterr().err


def test_nifti_masks_can_be_asked_of_series(mixed, tmp_path):
    assert run(mixed / "series", tmp_path / "out", "--nifti") == 0
    (mask,) = (tmp_path / "out").glob("*_seg.nii.gz")
    affine = nib.Nifti1Image.from_filename(mask).affine
    np.testing.assert_allclose(np.linalg.norm(affine[:3, :3], axis=0), SPACING, atol=1e-4)


# ------------------------------------------------------------------------------- fast


def test_fast_is_the_clinical_recipe_without_its_steps():
    views = RECIPES["views"]
    assert views.digest == "e000698f57e1c44a07413dd1bbedc83db5330c4e2431a24bfbd0737476cb1f12"
    assert views == CLINICAL.changed(name="views", steps=0)


# ------------------------------------------------------------------------------- upgrades


def test_an_upgrade_that_changes_nothing_says_so(mixed, done, tmp_path, capsys):
    options = ["--recipe", "source", *TINY]
    assert main(["check-upgrade", str(done), str(tmp_path), str(mixed), *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "a: same" in lines
    assert lines[-1] == "2 of 2 masks are the same"


def save_result(folder, case, mask, outcome="views"):
    folder.mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(mask, np.eye(4)), folder / f"{case}_seg.nii.gz")
    output = {"file": f"{case}_seg.nii.gz", "sha256": str(mask.tolist())}
    change = {"final_voxels": int(mask.sum())}
    record = {"output": output, "change": change, "outcome": outcome}
    (folder / f"{case}_record.json").write_text(json.dumps(record))


def test_what_an_upgrade_changed_is_named_with_its_dice(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    mask = np.zeros((2, 2, 2), np.uint8)
    mask[0] = 1
    less = mask.copy()
    less[0, 0] = 0
    save_result(old, "a", mask)
    save_result(new, "a", less, "adapted")
    save_result(old, "gone", mask)
    save_result(new, "more", mask)
    assert compare_results(old, new) == {
        "a": "changed, Dice 0.667; voxels 4 → 2, outcome views → adapted",
        "gone": "there is no mask now",
        "more": "there was no mask before",
    }


def test_a_changed_dicom_mask_is_named_with_its_dice(mixed, done, tmp_path):
    """Half of the frames of another version's object are empty."""
    (old,) = done.glob("*/segmentation.dcm")
    new = tmp_path / old.parent.name
    new.mkdir()
    made = dcmread(old)
    frames = np.array(made.pixel_array)
    filled = np.flatnonzero(frames.any(axis=(1, 2)))
    frames[filled[::2]] = 0
    made.PixelData = np.packbits(frames.ravel(), bitorder="little").tobytes()
    made.save_as(new / old.name)
    record = json.loads((old.parent / "record.json").read_text())
    record["dicom"]["mask_sha256"] = "another"
    (new / "record.json").write_text(json.dumps(record))
    whole, left = made.pixel_array.sum(), dcmread(old).pixel_array.sum()
    told = compare_results(done, tmp_path)[new.name]
    assert told.startswith(f"changed, Dice {2 * whole / (whole + left):.3f}; voxels ")


def test_old_masks_are_not_written_over(done, mixed, capsys):
    assert main(["check-upgrade", str(done), f"{done}/", str(mixed), *TINY]) == 2
    assert "NEW must be another folder than OLD" in capsys.readouterr().err


def test_an_upgrade_is_checked_against_results_only(tmp_path, capsys):
    assert main(["check-upgrade", str(tmp_path), str(tmp_path / "new"), "cases"]) == 2
    assert "OLD must hold records that `segment` wrote" in capsys.readouterr().err


# ------------------------------------------------------------------------------- demo


@pytest.mark.slow
def test_the_demonstration_compares_refuses_and_ends_with_its_report(tmp_path, capsys):
    report = [*TINY[:-1], "report=true"]
    assert main(["demo", str(tmp_path / "demo"), "--recipe", "source", *report]) == 0
    lines = capsys.readouterr().out.splitlines()
    told = re.fullmatch(r"Dice with .* label: (0\.\d{3}) before, (0\.\d{3}) after", lines[0])
    assert told[1] == told[2]  # the recipe `source` changes nothing
    assert lines[-1] == f"open in a browser: {tmp_path / 'demo' / 'index.html'}"
    page = (tmp_path / "demo" / "index.html").read_text()
    rows = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])["rows"]
    assert [row["light"] for row in rows] == ["refused", "none"]
    assert "'cut_off.nii.gz' is cut off. Copy it again" in rows[0]["says"]


# ------------------------------------------------------------------------------- planes


@pytest.mark.parametrize(
    ("thick", "towards"),
    [
        (2, {"frames": "H", "rows": "P", "columns": "L"}),
        (1, {"frames": "P", "rows": "F", "columns": "L"}),
        (0, {"frames": "L", "rows": "F", "columns": "P"}),
    ],
)
def test_planes_lie_as_radiologists_look_at_them(thick, towards):
    directions = {"L": (1, 0, 0), "P": (0, 1, 0), "H": (0, 0, 1), "F": (0, 0, -1)}
    affine = np.diag([-1.0, 1.0, 1.0, 1.0])  # x towards left, y towards anterior
    affine[:, thick] *= 5
    volume = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    planes = cut_into_planes(volume, affine)
    columns, rows, frames = planes.affine_lps[:3, :3].T
    found = {"columns": columns, "rows": rows, "frames": frames}
    for name, letter in towards.items():
        unit = found[name] / np.linalg.norm(found[name])
        assert tuple(unit) == directions[letter], name
    assert planes.spacing == pytest.approx((5, 1, 1))
    for index, value in np.ndenumerate(planes.values):
        place = planes.affine_lps @ [*reversed(index), 1]
        voxel = np.linalg.inv(np.diag([-1.0, -1, 1, 1]) @ affine) @ place
        assert volume[tuple(voxel[:3].round().astype(int))] == value
