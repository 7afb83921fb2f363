"""A client's image, model, parameters and files are checked, and a refusal names what there is."""

import pytest

from grata_monai.core.errors import DatasetError, RecipeError
from grata_monai.hosts.label.requests import (
    check_image,
    check_info,
    check_model,
    check_no_link,
    check_parameters,
    check_upload,
)

ASKED = {"model": "m", "image": "a", "device": "cpu", "recipe": "clinical", "result_dtype": "uint8"}


def test_parameters_that_something_reads_pass():
    check_parameters({**ASKED, "adapt": False, "own_setting": 1}, shown=["own_setting"])


@pytest.mark.parametrize(
    ("name", "hint"),
    [("recipee", "Did you mean 'recipe'"), ("time_limit", "Did you mean 'time_limit_s'"),
     ("qwxz", "Leave it out"), ("x" * 5000, "Leave it out")],
    ids=["recipee", "time_limit", "qwxz", "long"],
)  # fmt: skip
def test_a_parameter_that_nothing_reads_is_refused_with_the_nearest(name, hint):
    with pytest.raises(RecipeError, match=hint) as caught:
        check_parameters({**ASKED, name: 1})
    assert len(str(caught.value)) < 200


def test_a_model_must_be_one_of_the_servers():
    check_model("a", {"a": 1, "b": 2})
    for model in ("c", None, ["a"]):
        with pytest.raises(DatasetError, match="model must be among a, b"):
            check_model(model, ["a", "b"])


def test_an_image_is_one_of_the_studies_or_lies_in_a_folder_of_the_server(tmp_path):
    studies, outside = tmp_path / "studies", tmp_path / "outside"
    for folder in (studies / "series", outside):
        folder.mkdir(parents=True)
    (outside / "secret.nii").touch()
    (studies / "link.nii").symlink_to(outside / "secret.nii")
    check_image("a", ["a"], [studies])
    check_image(str(studies / "series"), [], [studies])
    refused = ["b", "", None, {"a": 1}, str(outside / "secret.nii"), str(outside / "gone.nii"),
               str(studies / ".." / "outside" / "secret.nii"), str(studies / "link.nii"),
               str(studies / "gone.nii"), "outside/secret.nii", "/proc/self/environ"]  # fmt: skip
    told = set()
    for image in refused:
        with pytest.raises(DatasetError, match="image must be one of the studies") as caught:
            check_image(image, ["a"], [studies])
        told.add(str(caught.value))
    assert len(told) == 1  # whether a file exists is not told


@pytest.mark.parametrize("file", ["a.nii.gz", "a.NRRD", "a.mha", "a.dcm"])
def test_images_may_be_kept(file):
    check_upload("case 3", f"/tmp/upload/{file}")


@pytest.mark.parametrize(
    ("name", "file"),
    [("../app/lib/evil", "a.nii"), ("/etc/a", "a.nii"), ("a/b", "a.nii"), ("..", "a.nii"),
     (".ssh", "a.nii"), ("a\\b", "a.nii"), ("a", "a.py"), ("a", "a.nii.py"), ("a", "a")],
)  # fmt: skip
def test_other_files_and_places_are_refused(name, file):
    with pytest.raises(DatasetError, match="must have a plain name and end in one of"):
        check_upload(name, file)


@pytest.mark.parametrize(
    ("name", "value"),
    [("result_dtype", "object"), ("result_dtype", "../x"), ("result_dtype", 7),
     ("logging", "DEBUG"), ("logging", 7), ("logging", {"a": 1})],
)  # fmt: skip
def test_what_becomes_a_type_or_a_level_of_the_log_is_a_choice(name, value):
    check_parameters({"result_dtype": "uint16", "logging": "WARNING"})
    with pytest.raises(RecipeError, match=f"{name} must be one of .*, it is not"):
        check_parameters({name: value})


@pytest.mark.parametrize("extension", [".py", "/../a.nii.gz", 5, [".nii"]])
def test_what_becomes_part_of_a_files_name_is_a_format_that_can_be_written(extension):
    check_parameters({"result_extension": ".nrrd"})
    check_parameters({"result_extension": ""})
    with pytest.raises(RecipeError, match=r"must be one of \.nii\.gz, \.nii, \.nrrd, \.mha"):
        check_parameters({"result_extension": extension})


def test_nothing_is_written_or_removed_through_a_link(tmp_path):
    (tmp_path / "case_1.nii.gz").touch()
    (tmp_path / "case_2.nii.gz").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "series").symlink_to(tmp_path)
    check_no_link(tmp_path, "case_1")
    check_no_link(tmp_path, "case")  # another name that begins so is none
    check_no_link(tmp_path / "missing", "case_2")
    for name in ("case_2", "series"):
        with pytest.raises(DatasetError, match="must lie on the server, this one is a link"):
            check_no_link(tmp_path, name)


@pytest.mark.parametrize("info", [7, "a", ["a"], {"strategy": 7}, {"strategy": "a"}])
def test_facts_that_nothing_could_read_are_refused(info):
    for good in (None, {}, {"strategy": {"a": {}}, "any": 7}):
        check_info(good)
    with pytest.raises(DatasetError, match="params and info must be JSON objects"):
        check_info(info)
