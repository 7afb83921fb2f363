"""Who opens a bundle holds it to its manifest first, and the record says so."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from monai.bundle import ConfigParser, create_workflow, run

from grata_monai import Record
from grata_monai.bundle import verify_own_bundle
from grata_monai.bundle.lint import write_manifest
from grata_monai.bundle.verify import manifest_digest
from grata_monai.bundle.wrap import wrap_bundle
from grata_monai.cli import main
from grata_monai.core.errors import BundleError, DatasetError, find_cause
from grata_monai.experiments.harness.opening import open_bench
from grata_monai.experiments.reproduce.part import Part
from grata_monai.experiments.reproduce.run import Options, run_part
from grata_monai.hosts.python_dicom import segment_dicom
from grata_monai.record.types import BundleVerification


@pytest.fixture
def copy(bundle, tmp_path) -> Path:
    """A copy of the bundle, to be damaged."""
    folder = tmp_path / "copy"
    shutil.copytree(bundle, folder, ignore=shutil.ignore_patterns("eval", "training"))
    return folder


@pytest.fixture
def image(tmp_path, render, save) -> str:
    case = render()
    return str(save(case.image, case.affine_ras, tmp_path / "a.nii.gz"))


@pytest.mark.parametrize(
    "enter",
    [
        lambda bundle, out: segment_dicom(out, out / "results", bundle_dir=bundle),
        lambda bundle, out: open_bench(bundle),
        lambda bundle, out: wrap_bundle(bundle, out / "overlay.json"),
        lambda bundle, out: run_part(
            Part("toy", tests=(), training=({"image": "a", "label": "b"},)),
            out,
            Options(bundle, methods=(), settings={}, device="cpu", seed=0, facts={}),
        ),
    ],
    ids=["segment_dicom", "compare and calibrate", "wrap", "benchmark"],
)
def test_a_changed_configuration_is_refused_before_it_is_parsed(enter, copy, tmp_path):
    (copy / "configs" / "inference.json").write_text("{ no JSON")
    with pytest.raises(BundleError, match=r"'configs/inference\.json' differs"):
        enter(copy, tmp_path)


def test_unverified_is_asked_for_in_python(copy, tmp_path):
    (copy / "more.md").write_text("mine")
    with pytest.raises(BundleError, match=r"'more\.md' is not listed"):
        open_bench(copy)
    assert open_bench(copy, unverified=True).bundle == "not verified: asked for"
    with pytest.raises(DatasetError, match="path must exist"):
        segment_dicom(tmp_path / "gone", tmp_path / "out", bundle_dir=copy, unverified=True)


@pytest.mark.parametrize("command", ["compare", "calibrate"])
def test_unverified_is_asked_for_on_the_command_line(
    command, copy, image, tmp_path, capsys, monkeypatch
):
    (copy / "LICENSE").unlink()
    for kind in ("images", "labels"):
        (tmp_path / "cases" / kind).mkdir(parents=True)
        shutil.copy(image, tmp_path / "cases" / kind / "a.nii.gz")
    places = ["--cases", f"x={tmp_path / 'cases'}", "--out", str(tmp_path / "out.json")]
    assert main([command, *places, "--network", str(copy)]) == 2
    assert "'LICENSE' is missing" in capsys.readouterr().err

    def arrive(path, *, settings, unverified):
        raise ValueError(f"came with unverified={unverified}")

    monkeypatch.setattr("grata_monai.experiments.harness.opening.open_bench", arrive)
    main([command, *places, "--network", str(copy), "--unverified"])
    assert "came with unverified=True" in capsys.readouterr().err


def test_the_bench_names_the_state_of_the_bundle(bundle):
    assert open_bench(bundle).bundle == f"manifest {manifest_digest(bundle)}"


@pytest.mark.slow
def test_wrapping_a_bundle_without_a_manifest_says_so(copy, tmp_path):
    (copy / "manifest.sha256").unlink()
    config = json.loads((copy / "configs" / "inference.json").read_text())
    config["inferer"] = config["inferer"]["inferer"]
    config["run"] = ["$@evaluator.run()"]
    (copy / "configs" / "inference.json").write_text(json.dumps(config))
    assert any("unverified" in n for n in wrap_bundle(copy, tmp_path / "overlay.json").notes)
    write_manifest(copy)
    assert not any("unverified" in n for n in wrap_bundle(copy, tmp_path / "overlay.json").notes)
    report = wrap_bundle(copy, tmp_path / "overlay.json", unverified=True)
    assert any("unverified" in note for note in report.notes)


# ------------------------------------------------------------------------- monai.bundle run


def read_bundle(folder: Path) -> BundleVerification | None:
    record = Record.from_json((folder / "a_record.json").read_text())
    return record.environment.bundle


def test_the_record_names_the_state_of_the_bundle(image, tmp_path, run_bundle, bundle):
    run_bundle("source_only", dataset_dir=image, output_dir=str(tmp_path / "out"))
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    assert read_bundle(tmp_path / "out") == BundleVerification(
        is_verified=True,
        manifest_sha256=manifest_digest(bundle),
        reason="",
        name=metadata["name"],
        version=metadata["version"],
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("models/model.pt", r"'models/model\.pt' differs"),
        ("docs/README.md", r"'docs/README\.md' differs"),
        ("torch.py", r"'torch\.py' is not listed"),
    ],
)
@pytest.mark.parametrize("overlays", [(), ("dicom",), ("evaluate",), ("heads",), ("train",)])
def test_a_run_of_a_changed_bundle_ends_before_anything_is_built(
    overlays, name, message, copy, tmp_path, refusal
):
    (copy / name).write_bytes(b"changed")
    settings = {"output_dir": str(tmp_path / "out")}
    if "train" in overlays:
        settings["run_id"] = "train"
    found = refusal(*overlays, configs=copy / "configs", **settings)
    assert found.startswith("error: BundleError: every file of the bundle must be as")
    assert message.replace("\\", "") in found
    assert not (tmp_path / "out").exists()


def test_unverified_lets_a_changed_bundle_run_and_stays_in_the_record(
    copy, image, tmp_path, run_bundle
):
    (copy / "docs" / "README.md").write_text("mine")
    out = tmp_path / "out"
    run_bundle(
        "source_only",
        configs=copy / "configs",
        dataset_dir=image,
        output_dir=str(out),
        unverified=True,
    )
    found = read_bundle(out)
    assert (found.is_verified, found.manifest_sha256, found.reason) == (False, None, "asked for")
    assert found.version == "0.1.0"


def test_a_run_refuses_what_only_the_operator_may_say_but_takes_it_from_the_operator(
    copy, tmp_path, refusal, open_bundle
):
    settings = {"dataset_dir": str(tmp_path), "output_dir": str(tmp_path / "out")}
    open_bundle("dicom", configs=copy / "configs", **settings, phi="keep")
    for items in ({"phi": "keep"}, {"security#is_insecure": True}):
        (copy / "configs" / "more.json").write_text(json.dumps(items))
        write_manifest(copy)
        found = refusal("dicom", configs=copy / "configs", **settings)
        assert found.startswith("error: BundleError: a bundle must leave to the operator")
    assert not (tmp_path / "out").exists()


def test_a_bundle_that_left_the_check_out_cannot_send(copy, tmp_path, open_bundle):
    config = json.loads((copy / "configs" / "inference.json").read_text())
    config |= {"initialize": [], "run": [
        {"_target_": "grata_monai.transfer.run.fetch_dataset", "dataset_dir": None,
         "source": "dicomwebs://evil.example?study=1.2"}
    ]}  # fmt: skip
    (copy / "configs" / "inference.json").write_text(json.dumps(config))
    with pytest.raises(RuntimeError) as caught:  # MONAI's
        open_bundle(configs=copy / "configs").run()
    message = str(find_cause(caught.value))
    assert "inference.json has run#0#source, which only the operator may set" in message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--datasetdir", "ph"], "got 'datasetdir'. Did you mean 'dataset_dir'?"),
        (["--destinatoin", "dicom://a"], "got 'destinatoin'. Did you mean 'destination'?"),
        (["--device#nam", "cpu"], "got 'device#nam'. Did you mean 'name'?"),
        (["--verified", "{}"], "must not be 'verified'"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_an_unknown_setting_of_monais_run_is_refused_before_any_work(
    options, message, bundle, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("MONAI_FAIL_ON_DUPLICATE_CONFIG", "0")
    files = [str(bundle / "configs" / f"{name}.json") for name in ("inference", "dicom")]
    given = {options[0].removeprefix("--"): options[1], "dataset_dir": str(tmp_path)}
    with pytest.raises(RuntimeError) as caught, pytest.warns(UserWarning, match="parsing config"):
        run("inference", config_file=files, logging_file=False, **given)
    sys.excepthook(caught.type, caught.value, caught.tb)
    assert message in capsys.readouterr().err


def test_what_the_configuration_knows_may_be_given_and_is_not_logged(bundle, tmp_path, caplog):
    caplog.set_level("INFO")
    files = [str(bundle / "configs" / f"{name}.json") for name in ("inference", "dicom")]
    given = {"device#name": "cpu", "evaluator#amp": False, "output_dir": str(tmp_path / "out")}
    with pytest.warns(UserWarning, match="parsing config"):
        workflow = create_workflow(
            config_file=files, run_id="x", logging_file=False, unverified=True, **given
        )
    assert workflow.parser["unverified"]
    assert not (tmp_path / "out").exists()
    assert "input summary of monai.bundle.scripts.run" in caplog.text
    assert str(tmp_path) not in caplog.text


@pytest.mark.slow
def test_the_option_of_the_command_line_is_understood(copy, image, tmp_path, run_process):
    (copy / "docs" / "README.md").write_text("mine")
    options = ["--config_file", str(copy / "configs/inference.json"), "--dataset_dir", image]
    options += ["--recipe", "source", "--output_dir", str(tmp_path / "out")]
    done = run_process("inference", *options)
    assert done.returncode == 1
    assert "'docs/README.md' differs" in done.stderr
    done = run_process("inference", *options, "--unverified", "True")
    assert done.returncode == 0, done.stderr
    assert not read_bundle(tmp_path / "out").is_verified


def parse(bundle: Path, **places: str) -> ConfigParser:
    """Open a bundle as hosts do that run no workflow."""
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / "inference.json"))
    parser.update(places)
    return parser


def test_a_host_that_builds_the_inferer_alone_verifies_too(copy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    known = parse(copy, bundle_root=str(copy)).get_parsed_content("inferer")
    assert known.bundle["manifest_sha256"] == manifest_digest(copy)
    unknown = parse(copy).get_parsed_content("inferer")
    assert unknown.bundle["reason"] == "the host does not say where the bundle lies"
    assert (known.profile is None, unknown.profile is None) == (False, True)
    (copy / "docs" / "README.md").write_text("changed")
    with pytest.raises(RuntimeError) as caught:  # MONAI's
        parse(copy, bundle_root=str(copy)).get_parsed_content("inferer")
    assert isinstance(find_cause(caught.value), BundleError)


def test_a_host_that_does_not_say_where_the_bundle_lies_is_recorded(tmp_path, caplog):
    found = verify_own_bundle(str(tmp_path))
    assert not found["is_verified"]
    assert found["reason"] == "the host does not say where the bundle lies"
    assert found["reason"] in caplog.text
