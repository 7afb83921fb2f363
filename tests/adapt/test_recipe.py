"""Recipes are validated, printable, hashable data."""

import json
from dataclasses import FrozenInstanceError, fields, replace

import pytest

from grata_monai import CLINICAL, PAPER, Recipe, resolve_recipe
from grata_monai.adapt.recipe import RECIPES
from grata_monai.adapt.settings import GuardSettings, Multiscale, Steps
from grata_monai.core.errors import RecipeError


def test_paper_holds_the_published_settings():
    assert (PAPER.steps.base_rate, PAPER.steps.count, PAPER.steps.optimizer) == (1e-4, 1, "Adam")
    assert (PAPER.steps.perturbation, PAPER.steps.image_share) == (1.0, 1.0)
    assert (PAPER.steps.auxiliary_loss, PAPER.steps.pseudo_loss) == ("entropy_half", "consistency")
    assert len(PAPER.steps.weak_views) == 6


def test_a_recipe_survives_json():
    for recipe in (PAPER, CLINICAL):
        again = Recipe.from_dict(json.loads(json.dumps(recipe.to_dict())))
        assert again == recipe
        assert again.digest == recipe.digest
        assert hash(again) == hash(recipe)


def test_every_setting_changes_the_digest():
    assert CLINICAL.changed(seed=1).digest != CLINICAL.digest
    assert PAPER.digest != CLINICAL.digest


def test_a_base_fills_the_other_fields():
    recipe = resolve_recipe({"base": "paper", "memory": "online"})
    assert recipe.changed(name="paper", memory="episodic") == PAPER


def test_a_recipe_is_frozen():
    with pytest.raises(FrozenInstanceError):
        CLINICAL.steps = 9  # type: ignore[misc]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stepz": 3}, r"recipe fields must be among .* got 'stepz'. Did you mean 'steps'"),
        (
            {"base": "papr"},
            r"base must be among clinical, paper, source, views, got 'papr'. Did you mean 'paper'",
        ),
        ({"image_share": 1.5}, r"image_share must lie in \[0, 1\], got 1.5"),
        ({"base_rate": -1.0}, "base_rate must be at least 0"),
        ({"base_rate": float("inf")}, "base_rate must be of the type float, and finite, got inf"),
        ({"steps": "5"}, "steps must be of the type int, and finite, got '5'"),
        ({"steps": 2.5}, "steps must be of the type int, and finite, got 2.5"),
        ({"min_cosine": "no"}, r"min_cosine must be of the type float \| None"),
        ({"weak_views": 3}, "weak_views must be of the type tuple"),
        ({"search_views": [7]}, "search_views must be of the type tuple"),
        ({"steps": -1}, "steps must be at least 0"),
        ({"windows": 0}, "windows must be at least 1"),
        ({"search_views": ["flip:0"]}, "search_views must be scales, got 'flip:0'"),
        ({"search_below": 1.1}, r"search_below must lie in \[0, 1\]"),
        ({"min_cosine": 2.0}, "min_cosine must be None or lie in"),
        ({"weak_views": []}, "weak_views must hold at least one name"),
        ({"weak_views": ["flp:0"]}, "flip"),
        ({"weak_views": [0]}, "weak_views must be of the type tuple.* got"),
        ({"search_views": [0.5]}, "search_views must be of the type tuple.* got"),
        ({"auxiliary_loss": "entropi"}, "auxiliary_loss must be among .* Did you mean 'entropy'"),
        ({"optimizer": "Adm"}, "optimizer must be among .* Did you mean 'Adam'"),
        ({"optimizer_settings": "x"}, "optimizer_settings must be of the type .*Mapping.* got 'x'"),
        ({"optimizer_settings": {"betta": 1}}, "optimizer_settings must suit Adam"),
        ({"precision": "fp16"}, "precision must be among bf16, fp32, got 'fp16'"),
        ({"parameters": ["norms"]}, "parameters must be among .* Did you mean 'norm'"),
        ({"mirror_margin": 1.5}, "mirror_margin must be None or lie in"),
        ({"calibrated_for": "bundle"}, "calibrated_for must be None or a SHA-256"),
        (
            {"base": "clinical", "mirror_margin": 0.01, "prediction_views": ["identity"]},
            "prediction_views must be at least two beside mirror_margin",
        ),
    ],
)
def test_a_wrong_setting_says_the_rule_and_the_value(settings, message):
    with pytest.raises(RecipeError, match=message):
        Recipe.from_dict(settings)


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(RecipeError, match=r"got 'clincal'. Did you mean 'clinical'"):
        resolve_recipe("clincal")


def test_digests_from_before_a_field_was_added_stay_valid():
    digest = (
        "2af0b5ccece0426318dd44c08c2562bf9f7ec8a143b5eba6b50832139595397e"  # of 0.1.0's commits
    )
    added = CLINICAL.changed(calibrated_for=None)
    former = added.changed(is_dynamic=True, min_cosine=-0.9, source_below=0.72, red_below=0.84)
    assert former.digest == digest
    assert former.changed(time_limit_s=60.0).digest == digest
    assert former.changed(guard=False).digest != digest
    assert former.changed(mirror_margin=0.0).digest != digest
    assert former.changed(calibrated_for="0" * 64).digest != digest


OWN, OTHER = "0" * 64, "1" * 64


@pytest.mark.parametrize(("margin", "careful"), [(None, 0.01), (-0.02, 0.01), (0.02, 0.02)])
def test_the_guard_is_careful_on_weights_that_nobody_calibrated(margin, careful):
    recipe = CLINICAL.changed(mirror_margin=margin, calibrated_for=OWN)
    assert recipe.with_safety_margin(OWN) is recipe
    assert recipe.with_safety_margin(OTHER) == recipe.changed(mirror_margin=careful)
    anywhere = recipe.changed(calibrated_for=None)
    assert anywhere.with_safety_margin(OTHER) is anywhere


@pytest.mark.parametrize("views", [{"focus_views": ()}, {"prediction_views": ("identity",)}])
def test_without_mirrored_magnified_views_there_is_nothing_to_be_careful_with(views):
    recipe = CLINICAL.changed(calibrated_for=OWN, **views)
    assert recipe.with_safety_margin(OTHER) is recipe


def test_only_a_guard_with_limits_for_some_weights_is_calibrated_or_not():
    recipe = CLINICAL.changed(calibrated_for=OWN)
    assert (recipe.is_calibrated(OWN), recipe.is_calibrated(OTHER)) == (True, False)
    for changes in ({"calibrated_for": None}, {"guard": False}, {"focus_views": ()}):
        assert recipe.changed(**changes).is_calibrated(OTHER) is None


def test_whoever_gives_a_margin_answers_for_it():
    assert resolve_recipe({"base": "clinical", "steps": 3}).guard.calibrated_for is not None
    for margin in (None, -0.01):
        changed = resolve_recipe({"base": "clinical", "mirror_margin": margin})
        assert changed.with_safety_margin(OTHER).guard.mirror_margin == margin
    named = {"base": "clinical", "mirror_margin": -0.01, "calibrated_for": OWN}
    assert resolve_recipe(named).with_safety_margin(OTHER).guard.mirror_margin == 0.01


@pytest.mark.parametrize("limit", [0, -1.5, float("inf"), float("nan")])
def test_a_time_limit_is_a_number_of_seconds(limit):
    with pytest.raises(RecipeError, match=r"time_limit_s must be (None or|of the type .* finite)"):
        CLINICAL.changed(time_limit_s=limit)


def test_the_guard_is_on_or_off():
    guard = replace(CLINICAL.guard)
    object.__setattr__(guard, "is_binding", "off")  # past the type checks of the tests
    with pytest.raises(RecipeError, match="guard must be true or false"):
        guard.__post_init__()


def test_digests_of_the_named_recipes_are_those_of_the_flat_ones():
    """As they were when a recipe had 32 fields beside each other."""
    digests = {name: recipe.digest[:16] for name, recipe in RECIPES.items()}
    assert digests == {
        "paper": "30267bb23ad5f9dc",
        "clinical": "2c981f18902d8aef",
        "views": "e000698f57e1c44a",
        "source": "4fb77a2840eb81c6",
    }


def test_json_is_flat_and_names_every_setting_once():
    written = CLINICAL.to_dict()
    parts = (Recipe, Steps, Multiscale, GuardSettings)
    count = sum(len(fields(part)) for part in parts) - 3  # the parts themselves are not written
    assert len(written) == count
    assert [key for key, value in written.items() if isinstance(value, dict)] == [
        "optimizer_settings"
    ]
    assert (written["steps"], written["focus_views"][0]) == (5, "scale:0.75:0,1")
    assert (written["guard"], written["windows"]) == (True, 2)
