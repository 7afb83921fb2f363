"""What a client hears of an error; the server itself is tested in tests/hosts."""

import pytest

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


def test_other_names_are_missing_as_usual():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = server.nothing
