"""The door to a bundle: nothing unverified is parsed, settings exist, errors are ours."""

import json
import shutil

import pytest

from grata_monai.bundle import open_bundle
from grata_monai.bundle.lint import write_manifest
from grata_monai.bundle.open import read_configuration
from grata_monai.bundle.verify import manifest_digest
from grata_monai.core.errors import BundleError, NetworkError, SettingError, WeightsError

pytestmark = pytest.mark.slow

TINY = {"spacing": [2.4, 2.4, 6.0], "roi_size": [48, 48, 8], "recipe": "source"}
OVERLAYS = [(), ("dicom",), ("evaluate",), ("label",), ("source_only",), ("heads",), ("train",)]


@pytest.fixture
def copy(bundle, tmp_path):
    """A copy of the bundle, to be changed."""
    ignored = shutil.ignore_patterns("eval", "training")
    return shutil.copytree(bundle, tmp_path / "copy", ignore=ignored)


def change(copy, name, edit):
    path = copy / "configs" / name
    config = json.loads(path.read_text())
    edit(config)
    path.write_text(json.dumps(config))
    write_manifest(copy)


# ------------------------------------------------------------------------- verify, then parse


def test_a_changed_configuration_is_refused_before_it_is_parsed(copy):
    (copy / "configs" / "inference.json").write_text("{ no JSON")
    with pytest.raises(BundleError, match=r"'configs/inference\.json' differs"):
        open_bundle(copy)
    with pytest.raises(BundleError, match=r"'inference\.json' is not \(JSONDecodeError\)"):
        open_bundle(copy, unverified=True)


def test_it_says_what_was_verified_and_hands_it_to_the_record(bundle, copy):
    opened = open_bundle(bundle)
    expected = {"is_verified": True, "manifest_sha256": manifest_digest(bundle), "reason": ""}
    assert opened.verified.items() >= expected.items()
    assert opened.get("inferer").bundle == opened.verified
    (copy / "LICENSE").unlink()
    unverified = open_bundle(copy, unverified=True)
    assert unverified.get("inferer").bundle["reason"] == "asked for"
    assert unverified.metadata["version"] == opened.metadata["version"]


def test_it_knows_its_folder_wherever_it_is_called_from(copy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    opened = open_bundle("copy")
    assert opened.root == copy
    assert opened.get("network#weights") == f"{copy}/models/model.pt"


def test_a_folder_without_a_configuration_is_refused(tmp_path):
    with pytest.raises(BundleError, match=r"must hold configs/inference.json"):
        open_bundle(tmp_path, unverified=True)


# ------------------------------------------------------------------------- overlays, settings


def test_overlays_are_names_of_the_bundle_or_paths_and_the_last_one_wins(bundle, tmp_path):
    own = tmp_path / "mine.json"
    own.write_text('{"recipe": "paper", "overlap": 0.5}')
    config = open_bundle(bundle, ("source_only", own)).config
    assert (config["recipe"], config["overlap"]) == ("paper", 0.5)
    config = open_bundle(bundle, (own, "source_only"), {"overlap": 0.1}).config
    assert (config["recipe"], config["overlap"]) == ("source", 0.1)


def test_an_overlay_that_is_not_there_is_refused(bundle, tmp_path):
    with pytest.raises(BundleError, match=r"must hold configs/dicon.json"):
        open_bundle(bundle, ("dicon",))
    with pytest.raises(BundleError, match=r"is not \(FileNotFoundError\)"):
        open_bundle(bundle, (tmp_path / "gone.json",))


def test_settings_reach_any_id_and_may_add_an_argument(bundle):
    settings = {
        "overlap": 0.5,
        "inferer#inferer#sw_batch_size": 1,
        "preprocessing::transforms::5::mode": "nearest",
        "inferer#keep_source": True,
    }
    opened = open_bundle(bundle, settings=settings)
    inferer = opened.get("inferer")
    assert (inferer.inferer.overlap, inferer.inferer.sw_batch_size) == (0.5, 1)
    assert inferer.keep_source
    assert opened.config["preprocessing"]["transforms"][5]["mode"] == "nearest"


@pytest.mark.parametrize(
    ("id", "message"),
    [
        ("recpie", "got 'recpie'. Did you mean 'recipe'?"),
        ("inferrer#precision", "Did you mean 'inferer'?"),
        ("evaluator#val_handler#0", "Did you mean 'val_handlers'?"),
        ("xyz", "Use one of again, case_seconds, cases"),
        ("preprocessing#transforms#99", "There is nothing called '99' there"),
        ("recipe#steps", "There is nothing called 'steps' there"),
        ("network_def#norm_nam", "Did you mean 'norm_name'?"),
        ("+handlers", "Did you mean 'handlers'?"),
        ("verified", "which `open_bundle` finds out"),
        ("verified#is_verified", "which `open_bundle` finds out"),
        ("unverified", "Its arguments are `root` and `unverified`"),
        ("bundle_root", "which `open_bundle` finds out"),
        ("device#nam", "Did you mean 'name'?"),
        ("inferer#keep_sorce", "Did you mean 'keep_source'?"),
        ("preprocessing#transforms#5#modus", "Did you mean 'mode'?"),
    ],
)
def test_a_setting_that_would_change_nothing_is_refused(id, message, bundle):
    with pytest.raises(SettingError) as caught:
        open_bundle(bundle, settings={id: 1})
    assert message in str(caught.value)
    assert isinstance(caught.value, ValueError)


# ------------------------------------------------------------------------- authority


def test_what_only_the_operator_may_say_is_refused_in_a_bundle_and_taken_from_him(copy, bundle):
    settings = {"destination": "dicoms://PACS@pacs.example:104", "phi": "keep"}
    opened = open_bundle(bundle, ("dicom",), settings)
    assert opened.config["destination"] == settings["destination"]
    change(copy, "dicom.json", lambda config: config.update(settings))
    for unverified in (False, True):
        with pytest.raises(BundleError, match=r"configs/dicom\.json has destination, which only"):
            open_bundle(copy, unverified=unverified)


def test_a_configuration_from_where_runs_write_is_refused(copy):
    (copy / "eval").mkdir()
    (copy / "eval" / "evil.json").write_text('{"payload": {"_target_": "os.system"}}')
    with pytest.raises(BundleError, match="must not come from the bundle's eval/"):
        open_bundle(copy, (copy / "eval" / "evil.json",))
    change(copy, "label.json", lambda config: config.update(x="%eval/evil.json::payload"))
    with pytest.raises(BundleError, match="has x, which reads another file as configuration"):
        open_bundle(copy)


def test_a_configuration_cannot_say_itself_that_it_was_verified(bundle):
    forged = {"is_verified": True, "manifest_sha256": "0" * 64, "reason": ""}
    opened = open_bundle(bundle, settings={"inferer#bundle": forged})
    assert not opened.get("inferer").bundle["is_verified"]
    assert opened.get("inferer").bundle["reason"] == "only the configuration itself says so"


# ------------------------------------------------------------------------- parts


def test_a_part_is_built_once_and_anew_after_a_setting(bundle):
    opened = open_bundle(bundle, settings={"device#name": "cpu"})
    network = opened.network
    assert opened.network is network
    assert not network.training
    opened.set({"overlap": 0.5})
    assert opened.network is not network
    assert opened.device.type == "cpu"


def test_an_unknown_part_is_refused_with_the_nearest(bundle):
    with pytest.raises(BundleError, match=r"must have 'triag', it has not. Did you mean 'triage'"):
        open_bundle(bundle, ("dicom",)).get("triag")
    with pytest.raises(BundleError, match=r"must have 'triage', it has not. Use one of"):
        open_bundle(bundle).get("triage")


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        ({"device#name": "tpu"}, NetworkError, "device must be 'auto' or a torch device"),
        ({"network#weights": "gone.pt"}, WeightsError, "must be a state dict"),
        ({"recipe": {"steps": -1}}, ValueError, "steps must be"),
    ],
)
def test_errors_come_out_as_ours_not_as_monais(settings, kind, message, bundle):
    opened = open_bundle(bundle, settings=settings)
    with pytest.raises(kind, match=message):
        _ = opened.network, opened.inferer


# ------------------------------------------------------------------------- the writer


@pytest.mark.parametrize("overlays", OVERLAYS)
def test_what_writes_stands_by_itself_and_the_evaluator_runs_it(overlays, bundle):
    config = open_bundle(bundle, overlays).config
    names = [step["_target_"] for step in config["postprocessing"]["transforms"]]
    assert not [name for name in names if "Save" in name]
    writer = "SaveDicomd" if "dicom" in overlays else "SaveImageAndRecordd"
    assert config["writer"]["_target_"].endswith(f".{writer}")
    assert config["postprocess_and_write"]["transforms"] == ["@postprocessing", "@writer"]
    assert config["evaluator"]["postprocessing"] == "$@postprocess_and_write"


def test_a_writer_with_which_an_overlay_ends_takes_the_place_of_the_bundles(bundle, tmp_path):
    target = "grata_monai.write.image.SaveImageAndRecordd"
    steps = [{"_target_": target, "output_dir": "elsewhere"}]
    (tmp_path / "mine.json").write_text(json.dumps({"+postprocessing#transforms": steps}))
    config = open_bundle(bundle, [tmp_path / "mine.json"]).config
    assert config["writer"]["output_dir"] == "elsewhere"
    assert target not in [step["_target_"] for step in config["postprocessing"]["transforms"]]


def put_writer_last(config):
    config["postprocessing"]["transforms"].append(config.pop("writer"))
    del config["postprocess_and_write"]
    config["evaluator"]["postprocessing"] = "@postprocessing"


def test_a_bundle_whose_postprocessing_ends_with_its_writer_still_works(
    bundle, copy, tmp_path, render, save
):
    change(copy, "inference.json", put_writer_last)
    case = render()
    image = save(case.image, case.affine_ras, tmp_path / "a.nii.gz")
    masks = []
    for root, out in ((bundle, "one"), (copy, "two")):
        places = {"dataset_dir": str(image), "output_dir": str(tmp_path / out)}
        opened = open_bundle(root, settings={**TINY, **places})
        opened.get("evaluator").run()
        assert type(opened.writer).__name__ == "SaveImageAndRecordd"
        kinds = [type(transform).__name__ for transform in opened.postprocessing.transforms]
        assert kinds[0] == "LiftRecordd"
        assert "SaveImageAndRecordd" not in kinds
        masks.append((tmp_path / out / "a_seg.nii.gz").read_bytes())
        assert (tmp_path / out / "a_record.json").is_file()
    assert masks[0] == masks[1]


def test_label_gets_its_options_and_nobody_else_does(bundle):
    parser = read_configuration(bundle, ("label",))
    options = {"adapt", "recipe", "method", "guard", "time_limit_s"}
    assert set(parser["displayable_configs"]) == options
    for overlays in OVERLAYS:
        text = json.dumps(open_bundle(bundle, overlays).config)
        assert ("grata_monai.hosts.label" in text) == ("label" in overlays)


@pytest.mark.parametrize("overlays", [(), ("dicom",), ("label",), ("dicom", "evaluate")])
def test_every_host_gives_a_case_the_same_time(bundle, overlays):
    opened = open_bundle(bundle, overlays, {"case_seconds": 7, "report": False})
    config = opened.config
    assert config["inferer"]["case_seconds"] == "@case_seconds"
    first = config["preprocessing"]["transforms"][0]
    limits = config.get("limits", first)
    assert limits["case_seconds"] == "@case_seconds"
    assert opened.get("inferer").case_seconds == 7
