"""What a client asks for becomes options of its image; anything else is refused by name."""

import pytest
import torch
from monai.data import MetaTensor

from grata_monai import CLINICAL, PAPER
from grata_monai.adapt.network import hash_state
from grata_monai.core.errors import RecipeError, WeightsError
from grata_monai.hosts.label.options import TakeOptionsd, list_methods, list_recipes
from grata_monai.options import OPTIONS_KEY, CaseOptions

STATE = {"b": torch.ones(2), "a": torch.zeros(3)}


@pytest.fixture
def weights(tmp_path):
    torch.save(STATE, tmp_path / "model.pt")
    return tmp_path / "model.pt"


@pytest.fixture
def take(weights):
    def take(asked=None, own="clinical"):
        image = MetaTensor(torch.rand(1, 4, 4, 4), meta={"filename_or_obj": "case.nii.gz"})
        image.meta[OPTIONS_KEY] = "of another origin"
        data = TakeOptionsd("image", own, weights)({"image": image, **(asked or {})})
        text = data["image"].meta.get(OPTIONS_KEY)
        assert torch.equal(data["image"].as_tensor(), image.as_tensor())
        assert data["image"].meta["filename_or_obj"] == "case.nii.gz"
        return None if text is None else CaseOptions.from_json(text)

    return take


def test_the_configurations_recipe_is_the_first_to_choose():
    assert list_recipes("clinical") == ["clinical", "paper", "views"]
    assert list_recipes("paper") == ["paper", "clinical", "views"]
    assert list_recipes({"base": "paper", "name": "ours"}) == ["ours", "paper", "clinical", "views"]


def test_data_without_options_get_none(take):
    assert take() is None


def test_untouched_options_are_the_configurations_recipe(take):
    untouched = {"adapt": True, "recipe": ["clinical", "paper"], "guard": True}
    assert take(untouched).recipe == CLINICAL
    assert (
        take({"recipe": ["ours"]}, {"base": "paper", "steps": 3, "name": "ours"}).recipe.steps.count
        == 3
    )
    assert take({"guard": True}).recipe == CLINICAL


def test_each_option_is_taken(take):
    assert take({"adapt": False}).recipe.name == "source"
    assert take({"recipe": "paper"}).recipe == PAPER
    assert take({"recipe": {"base": "paper", "steps": 4}}).recipe.steps.count == 4
    without = take({"guard": False}).recipe
    assert (without.name, without.guard.is_binding) == ("clinical, guard off", False)
    assert take({"time_limit_s": 7}).recipe.time_limit_s == 7


@pytest.mark.parametrize("empty", [0, None, 0.0])
def test_an_empty_time_limit_is_none(take, empty):
    assert take({"time_limit_s": empty}).recipe.time_limit_s is None


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"recipe": "clinicl"}, "Did you mean 'clinical'"),
        ({"recipe": 3}, "recipe must be a name, or settings, got 3"),
        ({"recipe": []}, "recipe must be a name"),
        ({"adapt": "false"}, "adapt must be true or false, got 'false'"),
        ({"guard": 0}, "guard must be true or false, got 0"),
        ({"time_limit_s": -3}, "time_limit_s must be"),
        ({"time_limit_s": "60"}, "time_limit_s must be"),
    ],
)
def test_anything_else_is_refused(take, asked, message):
    with pytest.raises(RecipeError, match=message):
        take(asked)


def test_the_weights_of_the_file_travel_along_whatever_their_order(take):
    assert take({"adapt": True}).weights_sha256 == hash_state(dict(sorted(STATE.items())))


def test_unreadable_weights_are_refused(take, weights):
    weights.write_bytes(b"")
    assert take() is None
    with pytest.raises(WeightsError, match=r"got model\.pt: .*Install the bundle again"):
        take({"adapt": True})


def test_the_configurations_method_is_the_first_to_choose():
    names = list_methods("tent")
    assert names[0] == "tent"
    assert "grata" in names
    assert len(names) == len(set(names))
    assert "source" not in names


def test_a_method_is_taken_by_its_name_and_left_alone_where_nothing_is_asked(take):
    assert take({"method": "tent"}).method == "tent"
    assert take({"method": ["sar", "tent"]}).method == "sar"  # untouched: all names
    assert take({"guard": True}).method == "grata"
    assert take({"method": "tent", "adapt": False}).method == "grata"
    with pytest.raises(RecipeError, match="Did you mean 'tent'"):
        take({"method": "tennt"})
