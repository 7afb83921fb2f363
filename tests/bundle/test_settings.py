"""Settings as they are typed on a command line."""

import json

import pytest

from grata_monai.bundle.settings import parse_settings, read_recipe
from grata_monai.core.errors import RecipeError


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("['batch',{}]", ["batch", {}]),
        ('["instance",{"affine":false}]', ["instance", {"affine": False}]),
        ("[1.5,1.5,10.0]", [1.5, 1.5, 10.0]),
        ("1e-3", 0.001),
        ("None", None),
        ("null", None),
        ("source", "source"),
        ("a=b", "a=b"),
        ("@roi_size", "@roi_size"),
        ("", ""),
    ],
)
def test_a_value_is_json_or_what_monai_makes_of_it(typed, value):
    assert parse_settings([f"network_def#norm_name={typed}"]) == {"network_def#norm_name": value}


def test_the_last_value_of_an_id_counts():
    assert parse_settings(["a=1", "b=2", "a=3"]) == {"a": 3, "b": 2}


@pytest.mark.parametrize("text", ["recipe", "=source", ""])
def test_what_has_no_id_or_no_value_is_refused(text):
    with pytest.raises(ValueError, match=rf"must be ID=VALUE, got '{text}'. Write --set"):
        parse_settings([text])


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({"base": "views", "steps": 1}, {"recipe": {"base": "views", "steps": 1}}),
        ({"recipe": "views", "profile": "p.json"}, {"recipe": "views", "profile": "p.json"}),
        ({"profile": "p.json"}, {"profile": "p.json"}),
    ],
)
def test_a_recipe_may_stand_in_a_file_of_settings_or_of_calibrate(content, found, tmp_path):
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(content))
    assert read_recipe(str(path)) == found


def test_a_recipes_name_stays_and_none_changes_nothing():
    assert read_recipe("views") == {"recipe": "views"}
    assert read_recipe(None) == {}


@pytest.mark.parametrize(
    ("text", "told"),
    [(None, "FileNotFoundError"), ("{", "JSONDecodeError"), ("[]", "holds none"), ("{}", "holds")],
)
def test_a_file_without_a_recipe_is_refused(text, told, tmp_path):
    path = tmp_path / "recipe.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(RecipeError, match=told):
        read_recipe(str(path))
