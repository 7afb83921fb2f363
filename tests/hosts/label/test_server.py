"""What a client hears of an error; the server itself is tested in tests/hosts."""

import shutil

import pytest
from monai.bundle import ConfigParser

from grata_monai.core.errors import BundleError, DicomError, RecipeError, UnreadableImageError
from grata_monai.hosts.label import server


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UnreadableImageError("broken.\nCopy it again."), 422),
        (DicomError("slices are missing.", reason="missing_slices"), 422),
        (RecipeError("wrong."), 422),
        (BundleError("changed."), 500),
    ],
)
def test_an_error_is_told_in_one_line(error, status):
    found, content = server.describe_error(error)
    assert found == status
    assert content["detail"].startswith(f"{type(error).__name__}: ")
    assert "\n" not in content["detail"]


@pytest.mark.parametrize(
    "device", [None, "cpu", "cuda:1", ["cpu"], ["NVIDIA H100 80GB HBM3:0", "cpu"]]
)
def test_names_of_devices_pass(device):
    server.check_device(device)


@pytest.mark.parametrize(
    "device", ["$1", "@network", "%a.json::b", {"_target_": "print"}, ["cpu", "$1"], [["cpu"]], 0]
)
def test_what_a_configuration_would_interpret_is_no_device(device):
    with pytest.raises(RecipeError, match="device must be one of those that /info/ lists"):
        server.check_device(device)


def test_a_bundle_with_an_overlay_for_label_is_verified_and_read_with_it(repository, tmp_path):
    def load(task, path, config):
        parser = ConfigParser()
        parser.read_config(config)
        return parser

    opened = server._with_overlay(load)
    ignored = shutil.ignore_patterns("eval", "training")
    copy = shutil.copytree(repository / "bundle", tmp_path / "bundle", ignore=ignored)
    config = str(copy / "configs" / "inference.json")
    parser = opened(None, str(copy), config)
    assert list(parser["displayable_configs"]) == [
        "adapt",
        "recipe",
        "method",
        "guard",
        "time_limit_s",
    ]
    assert parser["bundle_root"] == str(copy)
    assert "_target_" in parser["verified"]  # asked again with every request
    (copy / "LICENSE").write_text("changed")
    with pytest.raises(BundleError, match="'LICENSE' differs"):
        opened(None, str(copy), config)
    (copy / "configs" / "label.json").unlink()  # as any other bundle: MONAI Label's own way
    assert "displayable_configs" not in opened(None, str(copy), config)


def test_other_names_are_missing_as_usual():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = server.nothing


@pytest.mark.parametrize(
    ("status", "said", "told"),
    [
        (500, "Neither Image nor File not Session ID input is provided", 422),
        (500, "DICOM SEG format is not supported in a non-DICOM datastore", 422),
        (500, "Failed to execute infer", 500),
        (404, "Image NOT Found", 404),
    ],
)
def test_a_fault_of_the_client_is_called_one(status, said, told):
    found, words = server.correct_status(status, said)
    assert found == told
    assert (words == said) == (told == status)
