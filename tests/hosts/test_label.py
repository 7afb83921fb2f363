"""MONAI Label as a host: the real server over HTTP gives the masks of the bundle's own run."""

import json
import re
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import highdicom as hd
import jsonschema
import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from label_server import (
    MODEL,
    NOT_INSTALLED,
    is_installed,
    make_tiny_bundle,
    running_label,
)
from monai.bundle import ConfigWorkflow

from grata_monai.bundle.lint import write_manifest
from grata_monai.bundle.verify import find_differences
from grata_monai.hosts.label.worklist import STRATEGY
from grata_monai.phantom import make_case
from grata_monai.phantom.dicom import write_series
from grata_monai.record import Record
from grata_monai.record.sentences import describe_record

pytestmark = [
    pytest.mark.hosts,
    pytest.mark.slow,
    pytest.mark.skipif(not is_installed(), reason=NOT_INSTALLED),
]

SPACING = (2.4, 2.4, 6.0)
SHAPE = (48, 48, 8)  # one window of the network at this spacing
QUICK = {
    "base": "clinical",
    "name": "quick",
    "steps": 1,
    "windows": 1,
    "weak_views": ["identity"],
    "focus_views": ["identity", "scale:1.33:0,1"],
    "search_views": [],
    "source_below": 0.0,
}
TOLERANCE = 1e-3  # mm: what headers of ITK and nibabel may differ by


def save(case, path):
    nifti = nib.Nifti1Image(case.image, case.affine_ras)
    nifti.set_sform(case.affine_ras, code=1)
    nib.save(nifti, path)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """The bundle on a coarse grid, with a quick recipe."""
    # the profile is of the full grid, where nobody would adapt this case
    settings = {"spacing": list(SPACING), "roi_size": list(SHAPE), "recipe": QUICK, "profile": None}
    return make_tiny_bundle(tmp_path_factory.mktemp("tiny") / "bundle", **settings)


@pytest.fixture(scope="module")
def server(tmp_path_factory, bundle):
    folder = tmp_path_factory.mktemp("label")
    (folder / "studies").mkdir()
    for seed, orientation in ((3, "LPS"), (4, "PIL")):
        case = make_case(seed, spacing=SPACING, spatial_shape=SHAPE, orientation=orientation)
        save(case, folder / "studies" / f"case_{seed}.nii.gz")
    case = make_case(5, spacing=SPACING, spatial_shape=SHAPE)
    write_series(folder / "studies" / "series", case.image, case.affine_ras)
    (folder / "studies" / "broken.nii.gz").write_bytes(b"no image")
    (folder / "elsewhere.nii.gz").write_bytes(b"of another folder")
    (folder / "studies" / "linked.nii.gz").symlink_to(folder / "elsewhere.nii.gz")
    with running_label(folder, bundle=bundle) as server:
        yield server


@pytest.fixture(scope="module")
def run(bundle):
    """Run the same bundle with MONAI's own workflow, in the main environment."""

    def run(data, out, *overlays):
        with pytest.MonkeyPatch.context() as patch:  # takes back what MONAI and the bundle change
            patch.setattr(sys, "path", [*sys.path])
            patch.setattr(sys, "excepthook", sys.excepthook)
            workflow = ConfigWorkflow(
                [str(bundle / "configs" / f"{name}.json") for name in ("inference", *overlays)],
                workflow_type="infer",
                run_id="inference",
                logging_file=False,
                dataset_dir=str(data),
                output_dir=str(out),
            )
            workflow.initialize()
            workflow.run()

    return run


@pytest.fixture(scope="module")
def expected(server, run, tmp_path_factory):
    """Masks, affines and records of both studies, as the bundle's own run writes them."""
    out = tmp_path_factory.mktemp("run") / "out"
    good = out.parent / "studies"
    good.mkdir()
    for seed in (3, 4):
        name = f"case_{seed}.nii.gz"
        (good / name).symlink_to(server.folder / "studies" / name)
    run(good, out)
    return {
        f"case_{seed}": (
            nib.Nifti1Image.from_filename(out / f"case_{seed}_seg.nii.gz"),
            Record.from_json((out / f"case_{seed}_record.json").read_text()),
        )
        for seed in (3, 4)
    }


def test_info_shows_the_options(server):
    info = server.ask("info/")
    config = info["models"][MODEL]["config"]
    assert set(info["labels"]) == {"prostate", "prostate, original network"}
    assert info["models"][MODEL]["labels"] == {"prostate": 1}
    assert config["adapt"] is True
    assert config["guard"] is True
    assert config["recipe"] == ["quick", "paper", "clinical", "views"]
    assert config["time_limit_s"] == 300
    assert config["model_filename"] == ["model.pt"]


@pytest.mark.parametrize("case", ["case_3", "case_4"])
def test_a_nifti_gets_the_mask_and_record_of_the_bundles_run(server, expected, repository, case):
    answer = server.segment(case)
    image, record = expected[case]
    assert answer.mask.any()
    assert np.array_equal(answer.mask, np.asarray(image.dataobj))
    np.testing.assert_allclose(answer.affine_ras, image.affine, atol=TOLERANCE)
    found = Record.from_json(json.dumps(answer.record))
    assert found.steps == record.steps
    assert found.weights == record.weights
    assert found.verdict == record.verdict
    assert found.recipe_sha256 == record.recipe_sha256
    assert found.environment.bundle == record.environment.bundle
    schema = json.loads((repository / "docs/reference/record.schema.json").read_text())
    jsonschema.validate(answer.record, schema)


def test_the_light_and_the_verdict_come_first(server):
    answer = server.segment("case_3")
    assert list(answer.params)[:2] == ["light", "verdict"]
    assert answer.params["light"] == answer.record["verdict"]["light"] != "none"
    assert answer.params["verdict"] == describe_record(Record.from_json(json.dumps(answer.record)))
    assert answer.params["label_names"] == {"prostate": 1}


def test_a_study_gets_a_page_a_place_in_the_worklist_and_the_original_s_mask(server):
    answers = {case: server.segment(case) for case in ("case_3", "case_4")}
    page = answers["case_3"].params["report"]
    assert page == "/reports/report/case_3.html"
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{page}") as shown:
        assert "case_3</title>" in shown.read().decode()
    with pytest.raises(urllib.error.HTTPError, match="404"):
        server.ask("reports/report/..%2F..%2Fmain.py")
    lowest = min(answers, key=lambda case: answers[case].record["verdict"]["agreement"])
    sample = server.ask_for_sample(STRATEGY)
    assert sample["id"] == lowest
    assert sample["PatientID"] == f"{answers[lowest].params['light'].upper()} {lowest}"
    original = server.infer({"image": "case_3"}, {}, model=f"{MODEL}_original")
    assert original.params["label_names"] == {"prostate, original network": 1}
    assert np.array_equal(original.mask, server.segment("case_3", adapt=False).mask)


def test_as_slicer_asks_an_upload_and_an_nrrd_give_the_same_mask(server, expected):
    session = server.open_session([server.folder / "studies" / "case_4.nii.gz"])
    query = {"image": "Volume", "session_id": session}
    answer = server.infer(query, {"result_extension": ".nrrd"})
    image, _ = expected["case_4"]
    assert np.array_equal(answer.mask, np.asarray(image.dataobj))
    np.testing.assert_allclose(answer.affine_ras, image.affine, atol=TOLERANCE)


def test_a_dicom_folder_gets_the_mask_of_the_bundles_run(server, run, tmp_path):
    run(server.folder / "studies" / "series", tmp_path / "out", "dicom")
    (segmentation,) = (tmp_path / "out").glob("*/segmentation.dcm")
    files = sorted((server.folder / "studies" / "series").iterdir())
    sources = [pydicom.dcmread(file, stop_before_pixels=True) for file in files]
    sources.sort(key=lambda source: source.ImagePositionPatient[2])
    frames = hd.seg.segread(segmentation).get_pixels_by_source_instance(
        [source.SOPInstanceUID for source in sources], combine_segments=True
    )
    by_path = server.segment(server.folder / "studies" / "series", result_extension="")
    session = server.open_session(files)
    uploaded = server.infer({"image": "series", "session_id": session}, {})
    assert frames.any()
    assert np.array_equal(by_path.mask, frames.transpose(2, 1, 0))
    assert np.array_equal(uploaded.mask, by_path.mask)
    assert uploaded.record["steps"] == by_path.record["steps"]


def test_options_reach_the_adaptation(server):
    source = server.segment("case_3", adapt=False)
    free = server.segment("case_3", guard=False)
    paper = server.segment("case_3", recipe="paper")
    assert source.record["outcome"] == "source"
    assert source.record["recipe"]["name"] == "source"
    assert free.record["recipe"]["name"] == "quick, guard off"
    assert free.record["verdict"]["kept"] == "adapted"
    assert paper.record["recipe"]["name"] == "paper"
    assert paper.record["verdict"]["light"] == "none"


def test_over_the_time_limit_the_source_prediction_comes_with_its_reason(server):
    late = server.segment("case_3", time_limit_s=1e-9)
    source = server.segment("case_3", adapt=False)
    assert np.array_equal(late.mask, source.mask)
    assert late.params["outcome"] == "source"
    assert "adaptation must end within time_limit_s" in late.params["reason"]
    assert late.params["light"] == "red"


def test_two_requests_at_once_give_the_bytes_of_one_after_the_other(server):
    asked = [("case_3", {}), ("case_4", {}), ("case_3", {"adapt": False})]
    alone = [server.segment(case, **options) for case, options in asked]
    with ThreadPoolExecutor(len(asked)) as pool:
        both = list(pool.map(lambda one: server.segment(one[0], **one[1]), asked))
    for one, other in zip(alone, both, strict=True):
        assert one.mask.tobytes() == other.mask.tobytes()
        assert one.record["steps"] == other.record["steps"]
        assert one.record["recipe"] == other.record["recipe"]
    assert alone[0].mask.tobytes() != alone[2].mask.tobytes()


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        ("broken", {}, "UnreadableImageError: file must be compressed by gzip if its name"),
        ("unknown", {}, "DatasetError: image must be one of the studies, or be sent"),
        ("/proc/self/environ", {}, "DatasetError: image must be one of the studies, or be sent"),
        ("case_3", {"recipee": "paper"}, "RecipeError: a parameter must be known.*Did you mean"),
        ("case_3", {"image": "/etc/passwd"}, "DatasetError: image must be one of the studies"),
        ("case_3", {"recipe": "clinicl"}, "RecipeError: recipe must be among .*Did you mean"),
        ("case_3", {"adapt": "off"}, "RecipeError: adapt must be true or false"),
        ("case_3", {"time_limit_s": -1}, "RecipeError: time_limit_s must be None or a number"),
        ("case_3", {"logging": 7}, "RecipeError: logging must be one of INFO, WARNING, ERROR"),
    ],
)
def test_a_bad_request_is_told_why_and_the_server_lives_on(server, image, options, message):
    answer = server.infer({"image": image}, options)
    assert answer.status == 422
    assert re.match(message, answer.params["detail"])
    assert server.segment("case_3", adapt=False).status == 200


@pytest.mark.parametrize("option", ["recipe", "device"])
def test_what_a_client_sends_is_never_run_as_code(server, tmp_path, option):
    """MONAI Label itself runs such a device."""
    mark = tmp_path / "was_run"
    for _ in range(2):
        answer = server.segment("case_3", **{option: f"$open({str(mark)!r}, 'w').close()"})
        assert answer.status == 422
    assert server.segment("case_3", adapt=False).status == 200
    assert not mark.exists()


def test_pages_of_other_origins_and_other_names_are_not_answered(server):
    for headers in ({"Origin": "http://elsewhere.example"}, {"Host": "elsewhere.example"}):
        with pytest.raises(urllib.error.HTTPError, match=r"403|421"):
            server.request("info/", headers=headers)


def test_an_upload_cannot_write_beside_the_studies(server):
    before = sorted((server.folder / "app").rglob("*"))
    for query, name in (("?image=../app/lib/evil_code", "a.py"), ("?image=evil", "a.py")):
        with pytest.raises(urllib.error.HTTPError, match="422"):
            server.upload(f"datastore/{query}", name, b"print(1)")
    assert sorted((server.folder / "app").rglob("*")) == before
    assert not list((server.folder / "studies").rglob("*.py"))


@pytest.mark.parametrize("path", ["datastore/image?id=linked", "session/%2e%2e", "session/."])
def test_what_lies_elsewhere_is_neither_removed_nor_written(server, path):
    with pytest.raises(urllib.error.HTTPError, match=r"422|404"):
        server.request(path, method="DELETE")
    with pytest.raises(urllib.error.HTTPError, match="422"):
        server.upload("datastore/image?image=linked", "a.nii.gz", b"mine")
    assert (server.folder / "elsewhere.nii.gz").read_bytes() == b"of another folder"
    assert (server.folder / "studies" / "linked.nii.gz").is_symlink()


def test_a_label_of_raw_bytes_does_not_have_the_study_read_without_limits(server):
    """MONAI Label itself opens the study with ITK for it, in the server."""
    with pytest.raises(urllib.error.HTTPError, match="422") as caught:
        server.upload(f"infer/{MODEL}?image=case_3", "a.bin", b"0", field="label", method="POST")
    assert "label must be an image, it is raw bytes" in caught.value.read().decode()


@pytest.mark.parametrize("params", ["{", "[1]", "7", "[" * 100_000])
def test_malformed_parameters_are_told_in_one_sentence(server, params):
    answer = server.infer({"image": "case_3"}, params)
    assert answer.status == 422
    assert re.match("params must be one JSON object of values", answer.params["detail"])


def test_an_unknown_model_is_told_in_one_sentence(server):
    answer = server.infer({"image": "case_3"}, {}, model="other")
    assert answer.status == 422
    assert answer.params["detail"].startswith(f"DatasetError: model must be among {MODEL}")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({}, "image must be given, or sent, it is not"),
        ({"session_id": "none"}, "DatasetError: image must be one of the studies, or be sent"),
        ({"image": "case_3", "output": "dicom_seg"}, "output must be image, json or all"),
    ],
)
def test_a_request_without_what_it_needs_is_told_in_one_sentence(server, query, message):
    answer = server.infer(query, {"adapt": False})
    assert answer.status == 422
    assert answer.params["detail"].startswith(message)


def test_no_task_runs_in_a_process_that_nothing_stands_before(server, tmp_path):
    """MONAI Label itself starts another Python for it, which runs such a device as code."""
    mark = tmp_path / "was_run"
    params = json.dumps({"device": f"$open({str(mark)!r}, 'w').close()", "max_workers": 1})
    for path in (f"batch/infer/{MODEL}", "scoring/", "logs/"):
        assert server.post(path, params) == 403
    assert not mark.exists()


def test_the_log_says_nothing_of_every_origin_and_holds_no_traceback_of_ours(server):
    log = (server.folder / "log").read_text()
    assert "Allow Origins" not in log
    assert "Expecting property name" not in log  # the text of Python's own error


def test_requests_write_nothing_into_the_bundle_nor_into_the_studies(server):
    server.segment("case_3", adapt=False)
    assert find_differences(server.bundle) == []
    assert not (server.bundle / "eval").exists()
    assert list((server.folder / "studies").rglob("*_seg*")) == []


@contextmanager
def changed(path, content):
    """Another content of a file, for a while."""
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(before)


def test_a_bundle_that_was_changed_is_refused(server):
    page = server.bundle / "docs" / "README.md"
    with changed(page, page.read_bytes() + b" "):
        answer = server.segment("case_3", adapt=False)
    assert answer.status == 500
    assert "BundleError" in answer.params["detail"]
    assert server.segment("case_3", adapt=False).status == 200


def test_weights_that_do_not_fit_are_refused(server, tmp_path):
    """MONAI Label itself only warns, and would go on with weights that are partly random."""
    weights = server.bundle / "models" / "model.pt"
    state = torch.load(weights, weights_only=True)
    renamed = {key.replace("bottleneck", "neck"): value for key, value in state.items()}
    torch.save(renamed, tmp_path / "renamed.pt")
    manifest = server.bundle / "manifest.sha256"
    with changed(manifest, b""), changed(weights, (tmp_path / "renamed.pt").read_bytes()):
        write_manifest(server.bundle)
        answer = server.segment("case_3", adapt=False)
    assert answer.status == 500
    assert (
        "WeightsError: the network must hold the weights of the bundle" in (answer.params["detail"])
    )
    assert server.segment("case_3", adapt=False).status == 200
